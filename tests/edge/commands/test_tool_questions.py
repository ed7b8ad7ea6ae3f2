"""In a pseudo-terminal, a person is asked before a tool changes something: yes, always, no, or Ctrl-C."""

import json
from pathlib import Path

from tests.edge.asking import eventually
from tests.edge.commands.terminals import FAKE, RUN, Terminal
from tests.edge.tools.scripts import call

LIGHTS = '''
def light(room: str) -> str:
    """Switch a light on."""
    return f"{room} is lit"
'''
SCRIPTED = """
scripts, stream = {scripts}, FakeEngine.stream
def scripted(self, prompt, options):
    self.words = tuple(scripts.pop(0))
    return stream(self, prompt, options)
FakeEngine.stream = scripted
"""
ASKED = (
    "text = ''.join(p.text for p in FakeEngine.opened[0].asked[-1][0] if hasattr(p, 'text'))\n"
    "print('LIT', text.count(' is lit'), 'REFUSED', text.count('refused by the user'))\n"
)


def program(tmp_path: Path, *scripts: list[str]) -> str:
    (tmp_path / "lights.py").write_text(LIGHTS)
    words = ["edge", "chat", "--tool", f"{tmp_path}/lights.py:light"]
    scripted = SCRIPTED.format(scripts=json.dumps(scripts))
    return f"{FAKE}{scripted}sys.argv = {words!r}\n{RUN}{ASKED}sys.exit(status)\n"


def test_a_call_is_made_when_a_person_agrees(tmp_path: Path) -> None:
    lit = [call("light", room="hall")]
    code = program(tmp_path, lit, ["Refused."], lit, ["Once."], lit, ["Always."], lit, ["Unasked."], ["The end."])
    with Terminal(code) as terminal:
        for n, (answer, said) in enumerate(
            (("n", "Refused."), ("y", "Once."), ("a", "Always."), (None, "Unasked.")), 1
        ):
            terminal.enter(f"Light {n}")
            if answer is not None:
                terminal.expect("[y]es, [a]lways, [N]o:", times=n)
                assert terminal.says('tool: light(room="hall")') and terminal.says('Allow light(room="hall")?')
                terminal.send(f"{answer}\n")
            terminal.expect(said)
        terminal.enter("And now?", "/quit")
        assert terminal.end() == 0
        assert terminal.says("LIT 3 REFUSED 1") and terminal.shown().count("[y]es") == 3


def test_control_c_at_the_question_stops_the_answer_and_calls_nothing(tmp_path: Path) -> None:
    with Terminal(program(tmp_path, [call("light", room="hall")], ["Go on."])) as terminal:
        terminal.enter("Light")
        terminal.expect("[y]es, [a]lways, [N]o:")
        terminal.send("\x03")
        terminal.expect("edge: stopped")
        terminal.enter("What now?", "/quit")
        assert terminal.end() == 0
        assert terminal.says("Go on.") and terminal.says("LIT 0 REFUSED 0")


def test_what_was_typed_before_the_question_is_no_answer(tmp_path: Path) -> None:
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    waiting = (
        "import time\nscripted_at_once = FakeEngine.stream\n"
        f"def wait(*arguments):\n    Path({str(begun)!r}).touch()\n"
        f"    while not Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
        "    return scripted_at_once(*arguments)\nFakeEngine.stream = wait\nsys.argv = "
    )
    code = program(tmp_path, [call("light", room="hall")], ["Refused."]).replace("sys.argv = ", waiting, 1)
    with Terminal(code) as terminal:
        terminal.enter("Light")
        eventually(begun.exists)
        terminal.send("y\n")
        terminal.expect("y")
        gate.touch()
        terminal.expect("[y]es, [a]lways, [N]o:")
        terminal.send("\n")
        terminal.expect("Refused.")
        terminal.enter("/quit")
        assert terminal.end() == 0 and terminal.says("LIT 0 REFUSED 1")
