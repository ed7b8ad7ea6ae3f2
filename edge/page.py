"""The page at `/`: it says what answers here, and nothing on it is loaded from anywhere."""

HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>edge</title>
</head>
<body>
<h1>edge</h1>
<p>This device answers Reka's chat interface, offline. There is no chat page in this version; programs talk to:</p>
<dl>
<dt><code>POST /v1/chat</code></dt><dd>Reka's chat, as its Python SDK speaks it</dd>
<dt><code>POST /v1/chat/completions</code></dt><dd>OpenAI's chat completions</dd>
<dt><code>GET /v1/models</code></dt><dd>the models that answer here</dd>
<dt><code>POST /chat</code>, <code>GET /models</code></dt><dd>Reka's interface before 2.0</dd>
<dt><a href="/health"><code>GET /health</code></a></dt><dd>whether the server is ready</dd>
<dt><a href="/metrics"><code>GET /metrics</code></a></dt><dd>what it did so far; needs the key, where one is set</dd>
<dt><a href="/openapi.json"><code>GET /openapi.json</code></a></dt><dd>all of this as a document; needs it too</dd>
</dl>
</body>
</html>
"""

HEADERS = (
    ("content-type", "text/html; charset=utf-8"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)
