import json
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from asgipipe.deployers.container import join
from asgipipe.deployers.keeper.handing_over import Offer

PATIENCE = 30.0
REPORT = "import json, os, socket; s = socket.socket(fileno=int(os.environ['ASGIPIPE_LISTENER'])); "
REPORT += "print(json.dumps(s.getsockname()))"


def test_a_keeper_waits_for_its_listener(tmp_path: Path) -> None:
    """Started before anybody offers a listener, it is there when one is offered, and the server gets that one."""
    offer, state = tmp_path / "offer.sock", tmp_path / "state"
    state.mkdir()
    offer.touch()  # what another start of the machine has left behind
    command = [sys.executable, "-m", "asgipipe.deployers.container.join", str(offer)]
    options = [f"--state={state}", "--host=127.0.0.1", "--port=0", "--", sys.executable, "-c", REPORT]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        with closing(socket.create_server(("127.0.0.1", 0))) as listener, closing(Offer(offer, listener)) as offered:
            over = threading.Event()
            answering = threading.Thread(target=answer, args=(offered, over))
            answering.start()
            output, _ = process.communicate(timeout=PATIENCE)
            over.set()
            answering.join()
            assert process.returncode == 0
            assert json.loads(output) == list(listener.getsockname())
    finally:
        process.kill()
        process.wait()


def answer(offer: Offer, over: threading.Event) -> None:
    while not over.wait(0.01):
        offer.answer()


def test_it_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an offer it ends with status 3 and says what it has waited for."""
    monkeypatch.setattr(join, "_PATIENCE", 0.1)
    with pytest.raises(SystemExit) as ended:
        join.main([str(tmp_path / "nothing.sock"), "--state", "x"])
    assert ended.value.code == 3
    assert "nothing.sock" in capsys.readouterr().err
