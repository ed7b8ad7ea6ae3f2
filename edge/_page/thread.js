/** The messages of a conversation as a person sees them, redrawn only where they changed. */

import { preview } from "./composer.js";
import { copyText, find, h, icon, iconButton } from "./dom.js";
import { MarkdownView } from "./markdown.js";

const ENDS = {
  length: "It reached the longest answer allowed.",
  context: "The model's context is full.",
  stopped: "Stopped.",
  interrupted: "The page was closed before the answer was whole.",
};
const NEAR_PX = 80;
const LONG_S = 1; // a wait that is worth a word

/** on: {again(message), goOn(message), edit(message), key(), blob(medium), say(text)}. */
export class Thread {
  constructor(on) {
    this.on = on;
    this.scroller = find("#scroller");
    this.list = find("#messages");
    this.shown = new Map(); // message id: {article, view, …}
    this.urls = [];
    this.follows = true;
    const newest = find("#newest");
    this.scroller.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.scroller;
      this.follows = scrollHeight - scrollTop - clientHeight < NEAR_PX;
      newest.hidden = this.follows;
    });
    newest.addEventListener("click", () => this.toEnd());
    // The field grows with what is written in it, and a phone's keyboard comes up.
    new ResizeObserver(() => this.follows && this.toEnd()).observe(this.scroller);
    this.list.addEventListener("click", (event) => this.copyCode(event));
    listenToViewer();
  }

  /** Shows a conversation from its beginning to its end. */
  show(messages, running) {
    for (const url of this.urls.splice(0)) URL.revokeObjectURL(url);
    this.shown.clear();
    this.list.replaceChildren();
    find("#welcome").hidden = messages.length > 0;
    for (const message of messages) this.add(message);
    this.refresh(messages, running);
    this.toEnd();
  }

  add(message) {
    find("#welcome").hidden = true;
    const parts = message.role === "user" ? this.userParts(message) : this.answerParts(message);
    this.shown.set(message.id, parts);
    this.list.append(parts.article);
    if (message.role === "assistant") this.update(message);
  }

  /** Takes out the messages that are not in the conversation any more, and shows who may do what now. */
  refresh(messages, running) {
    const there = new Set(messages.map((message) => message.id));
    for (const [id, { article }] of this.shown) {
      if (there.has(id)) continue;
      article.remove();
      this.shown.delete(id);
    }
    find("#welcome").hidden = messages.length > 0;
    messages.forEach((message, i) => this.showActions(message, i === messages.length - 1, running));
  }

  /** What an answer says, as it is read out. */
  spoken(message) {
    return this.shown.get(message.id)?.view.element.innerText ?? message.text;
  }

  /** Shows what an answer has become. */
  update(message) {
    const parts = this.shown.get(message.id);
    if (!parts) return;
    parts.view.update(message.text);
    parts.reasoning.hidden = !message.reasoning;
    parts.thoughts.textContent = message.reasoning ?? "";
    parts.waiting.hidden = message.text !== "" || message.end !== null;
    parts.facts.textContent = facts(message);
    parts.failure.replaceChildren(...(message.failure ? this.failureParts(message) : []));
    parts.failure.hidden = !message.failure;
    if (this.follows) this.toEnd();
  }

  /** Shows how long an answer has been waited for: a picture can take a small device a minute. */
  tick(message) {
    const waiting = this.shown.get(message.id)?.waiting;
    if (waiting && !waiting.hidden)
      waiting.dataset.seconds = `${Number.parseInt(waiting.dataset.seconds ?? "0", 10) + 1} s`;
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.follows = true;
    find("#newest").hidden = true;
  }

  userParts(message) {
    const media = h("div", { class: "media" });
    for (const medium of message.media) this.showMedium(media, medium);
    const text = message.text ? h("p", { class: "plain", dir: "auto" }, message.text) : null;
    const edit = iconButton("edit", "Change this message", () => this.on.edit(message));
    const copy = message.text ? this.copyButton(message) : null;
    const again = wideButton(() => this.on.again(message), icon("again"), "Ask again");
    const actions = h("div", { class: "actions" }, edit, copy, again);
    const bubble = h("div", { class: "bubble" }, message.media.length > 0 ? media : null, text);
    const article = h("article", { class: "user", "aria-label": "You" }, bubble, actions);
    return { article, edit, again };
  }

  answerParts(message) {
    const body = h("div", { class: "markdown" });
    const waiting = h("p", { class: "waiting", "aria-hidden": "true" }, h("span"), h("span"), h("span"));
    const thoughts = h("p", { class: "plain", dir: "auto" });
    const reasoning = h("details", { class: "reasoning", hidden: true }, h("summary", {}, "Reasoning"), thoughts);
    const failure = h("div", { class: "failure", hidden: true });
    const about = h("span", { class: "facts" });
    const copy = this.copyButton(message);
    const again = iconButton("again", "Answer anew", () => this.on.again(message));
    const more = wideButton(() => this.on.goOn(message), "Continue");
    const bar = h("div", { class: "bar" }, about, h("div", { class: "actions" }, copy, again, more));
    const article = h("article", { class: "answer", "aria-label": "Answer" }, reasoning, waiting, body, failure, bar);
    const view = new MarkdownView(body);
    return { article, view, reasoning, thoughts, waiting, failure, facts: about, copy, again, more };
  }

  copyButton(message) {
    return iconButton("copy", "Copy the text", () => this.copy(message.text));
  }

  /** Puts a medium into its place once it was read from the store. */
  async showMedium(place, medium) {
    const figure = h("figure", { class: medium.kind });
    place.append(figure);
    const blob = await this.on.blob(medium);
    if (!blob)
      return figure.append(h("span", { class: "sign" }, icon("warn"), `${medium.name}: no longer in this browser`));
    const shown = preview(medium, blob);
    if (shown.src) this.urls.push(shown.src);
    if (medium.kind !== "image") return figure.append(shown, h("figcaption", {}, medium.name));
    shown.alt = medium.name;
    shown.addEventListener("load", () => this.follows && this.toEnd(), { once: true });
    return figure.append(
      h(
        "button",
        {
          type: "button",
          class: "picture",
          "aria-label": `Show ${medium.name} large`,
          onclick: () => view(shown.src, medium.name),
        },
        shown,
      ),
    );
  }

  /** Shows what can be done with a message now; the buttons stay, so that none loses the focus by it. */
  showActions(message, isLast, running) {
    const parts = this.shown.get(message.id);
    const isOver = !running && message.end !== null;
    if (message.role === "user") {
      parts.edit.hidden = running;
      parts.again.hidden = !isLast || running;
      return;
    }
    const cut = ["length", "stopped", "interrupted"].includes(message.end) && message.text !== "";
    const ways = parts.failure.querySelector(".buttons");
    if (ways) ways.hidden = !isLast || !isOver;
    parts.copy.hidden = message.text === "" || message.end === null;
    parts.again.hidden = !isLast || !isOver || message.failure !== null;
    parts.more.hidden = !isLast || !isOver || !cut;
  }

  failureParts(message) {
    const { title, text, action } = message.failure;
    const act = {
      retry: ["Try again", () => this.on.again(message)],
      edit: ["Change the message", () => this.on.edit(message)],
      key: ["Enter the key", () => this.on.key()],
    }[action];
    const buttons = [h("button", { type: "button", class: "wide", onclick: act[1] }, act[0])];
    if (action !== "retry")
      buttons.push(
        h("button", { type: "button", class: "wide", onclick: () => this.on.again(message) }, "Try again"),
      );
    return [icon("warn"), h("div", {}, h("b", {}, title), h("p", {}, text), h("div", { class: "buttons" }, buttons))];
  }

  copyCode(event) {
    const button = event.target.closest(".copy-code");
    if (button) this.copy(button.closest(".code").querySelector("pre").textContent);
  }

  copy(text) {
    copyText(text).then(
      () => this.on.say("Copied."),
      () => this.on.say("The browser did not allow copying."),
    );
  }
}

function wideButton(onclick, ...children) {
  return h("button", { type: "button", class: "quiet wide", onclick }, children);
}

/** Model, tokens and speed of an answer, and how it ended when that is worth a word. */
function facts(message) {
  if (message.end === null || (message.end === "failed" && message.text === "")) return "";
  const { usage } = message;
  const wait = message.wait > LONG_S ? `after ${message.wait.toFixed(1)} s` : "";
  const rate = message.rate ? `${message.rate.toFixed(1)} a second` : "";
  const tokens = usage ? `${usage.input_tokens} tokens in, ${usage.output_tokens} out` : "";
  return [ENDS[message.end], message.model, tokens, wait, rate].filter(Boolean).join(" · ");
}

function listenToViewer() {
  const viewer = find("#viewer");
  find("button", viewer).addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
}

function view(src, name) {
  const viewer = find("#viewer");
  find("img", viewer).src = src;
  find("img", viewer).alt = name;
  find("span", viewer).textContent = name;
  viewer.showModal();
}
