import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import requests

from jobs.config_service.base import SourceError
from jobs.config_service.http_json import HttpJsonSource
from releases.demo.config_service import ConfigService
from tests.waiting import PATIENCE

TOKEN = {"Authorization": "Bearer demo"}


def write(folder, lists):
    (folder / "machines.json").write_text(json.dumps(lists, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setenv("CONFIG_TOKEN_DEMO", "demo")
    with ConfigService(tmp_path, 0, "demo") as service:
        threading.Thread(target=service.serve_forever, args=[0.01], daemon=True).start()
        yield service
        service.shutdown()


def source(service, slug="shop"):
    url = service.address + "/businesses/{business}/machines"
    return HttpJsonSource(slug, {"url": url, "token_variable": "CONFIG_TOKEN_DEMO"})


@pytest.mark.parametrize("count", [0, 1, 100, 101, 1000])
def test_portal_reads_every_page(service, tmp_path, count):
    rows = [{"hostname": f"web{n}", "labels": {"site": "上海"}} for n in range(count)]
    write(tmp_path, {"shop": rows, "pay": [{"hostname": "pay1"}]})
    assert source(service).rows() == rows
    assert source(service, "pay").rows() == [{"hostname": "pay1"}]


def test_file_may_be_edited_meanwhile(service, tmp_path):
    write(tmp_path, {"shop": [{"hostname": "web1"}]})
    assert len(source(service).rows()) == 1
    write(tmp_path, {"shop": []})
    assert source(service).rows() == []
    (tmp_path / "machines.json").write_text('{"shop": [{"hostname')
    with pytest.raises(SourceError, match="status 503"):
        source(service).rows()


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": "demo"}])
def test_token_is_wanted(service, tmp_path, headers):
    write(tmp_path, {"shop": []})
    answer = requests.get(f"{service.address}/businesses/shop/machines", headers=headers, timeout=PATIENCE)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/", "/machines.json", "/businesses/none/machines", "/businesses/../machines", "/businesses/shop/machines/"]
    + [f"/businesses/shop/machines?page={page}" for page in ("0", "-1", "x", "9" * 400, "%D9%A1")],
)
def test_everything_else_is_not_found(service, tmp_path, path):
    write(tmp_path, {"shop": []})
    assert requests.get(service.address + path, headers=TOKEN, timeout=PATIENCE).status_code == 404


@pytest.fixture
def process(tmp_path):
    write(tmp_path, {"shop": [{"hostname": "web1"}]})
    process = subprocess.Popen(
        [sys.executable, "-m", "releases.demo.config_service", str(tmp_path)],
        env={**os.environ, "CONFIG_TOKEN_DEMO": "demo"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


@pytest.mark.parametrize("way", ["stdin", signal.SIGTERM, signal.SIGINT])
def test_process_tells_its_address_and_ends_quietly(process, way):
    address = json.loads(process.stdout.readline())["address"]
    answer = requests.get(f"{address}/businesses/shop/machines", headers=TOKEN, timeout=PATIENCE)
    assert answer.json() == {"machines": [{"hostname": "web1"}], "next": None}
    if way == "stdin":
        process.stdin.close()
    else:
        process.send_signal(way)
    assert process.wait(PATIENCE) == 0
    assert process.stdout.read() + process.stderr.read() == ""


def test_process_without_a_token(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "CONFIG_TOKEN_DEMO"}
    command = [sys.executable, "-m", "releases.demo.config_service", str(tmp_path)]
    ended = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert "Set CONFIG_TOKEN_DEMO." in ended.stderr
