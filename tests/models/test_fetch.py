"""The folder of models: what is fetched into it over HTTPS, what is refused, and what a name then stands for."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_isp.cli.main import app
from edge_isp.errors import ModelError
from edge_isp.models.card import find_model, read_card, shipped_models
from edge_isp.models.fetch import choose, fetch_model, read_list
from edge_isp.models.folder import local_models

NAME = "garden-generic"


@dataclass
class Server:
    """An HTTPS server of files from memory."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    redirections: dict[str, str] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)  # answers that end too early


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed; it makes the server's certificate")
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key)),
            *("-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


@pytest.fixture
def server(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    key, path = certificate

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in served.redirections:
                self.send_response(302)
                self.send_header("Location", served.redirections[self.path])
                self.end_headers()
                return
            content = served.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if content is not None:
                self.wfile.write(content[:-1] if self.path in served.cut else content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    served = Server(f"https://localhost:{httpd.server_address[1]}")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.setenv("no_proxy", "localhost")
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield served
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def publish(server: Server, name: str = NAME, variant: bytes = b"compiled") -> bytes:
    """Puts a model with a variant on a server; the content of its card."""
    source = shipped_models()["rfdcsanet-t-generic"]
    text = source.read_text().partition("[variants.")[0].replace("rfdcsanet-t-generic", name)
    digest = hashlib.sha256(b"compiled").hexdigest()
    text += f'\n[variants.npu.64x48]\nfile = "{name}-npu-64x48.bin"\nsha256 = "{digest}"\n'
    server.files |= {
        f"/models/{name}.toml": text.encode(),
        f"/models/{name}.tflite": source.with_suffix(".tflite").read_bytes(),
        f"/models/{name}-npu-64x48.bin": variant,
    }
    return text.encode()


def list_of(server: Server, folder: Path, card: bytes, **changes: str) -> Path:
    entry = {"url": f"{server.url}/models/{NAME}.toml", "sha256": hashlib.sha256(card).hexdigest(), **changes}
    path = folder / "list.toml"
    path.write_text(f"[models.{NAME}]\n" + "".join(f'{key} = "{value}"\n' for key, value in entry.items()))
    return path


def models(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["models", *map(str, arguments)])
    if isinstance(result.exception, ModelError):
        return 1, str(result.exception)
    return result.exit_code, result.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ISP_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_a_listed_model_is_fetched_with_its_variants_and_found_by_name(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    model_list = list_of(server, tmp_path, publish(server))
    code, output = models("fetch", "--list", model_list)
    assert (code, output.strip()) == (0, str(folder / f"{NAME}.toml"))
    assert {path.name for path in folder.iterdir()} == {
        f"{NAME}.toml",
        f"{NAME}.tflite",
        f"{NAME}-npu-64x48.bin",
    }
    card = find_model("garden", "imx219")
    assert card.path == folder / f"{NAME}.tflite"
    assert card.find_variant("npu", (1, 12, 16, 20)) == folder / f"{NAME}-npu-64x48.bin"
    assert models("fetch", "--list", model_list, NAME)[0] == 0  # again: it is the same
    code, output = models("list", "--json")
    described = {entry["name"]: entry for entry in json.loads(output)}
    assert described[NAME]["path"] == str(card.path)
    assert [(v["npu"], v["size"]) for v in described[NAME]["variants"]] == [("npu", "64x48")]
    assert f"{NAME}: is what its card describes" in models("verify")[1]
    (folder / f"{NAME}-npu-64x48.bin").write_bytes(b"changed")
    code, output = models("verify")
    assert code == 1
    assert f"{NAME}: {folder / NAME}-npu-64x48.bin: is not the model that its card describes" in output


def test_what_is_not_as_listed_is_not_kept(server: Server, folder: Path, tmp_path: Path) -> None:
    card = publish(server)
    (listed,) = read_list(list_of(server, tmp_path, card, sha256="0" * 64)).values()
    with pytest.raises(ModelError, match=f"{NAME}.toml: is not the file that was listed: expected SHA-256 000"):
        fetch_model(listed, folder)
    (listed,) = read_list(list_of(server, tmp_path, card)).values()
    server.files[f"/models/{NAME}.tflite"] += b"\0"
    with pytest.raises(ModelError, match=f"{NAME}.tflite: is not the file that was listed"):
        fetch_model(listed, folder)
    publish(server, variant=b"other")
    with pytest.raises(ModelError, match="npu-64x48.bin: is not the file that was listed"):
        fetch_model(listed, folder)
    del server.files[f"/models/{NAME}-npu-64x48.bin"]
    with pytest.raises(ModelError, match="npu-64x48.bin: cannot be fetched: .*404"):
        fetch_model(listed, folder)
    publish(server)
    server.cut.add(f"/models/{NAME}.tflite")
    with pytest.raises(ModelError, match=f"{NAME}.tflite: (cannot be fetched|ended after)"):
        fetch_model(listed, folder)
    assert not folder.exists()


def test_a_card_of_another_model(server: Server, folder: Path, tmp_path: Path) -> None:
    card = publish(server).replace(f'name = "{NAME}"'.encode(), b'name = "other"')
    server.files[f"/models/{NAME}.toml"] = card
    (listed,) = read_list(list_of(server, tmp_path, card)).values()
    with pytest.raises(ModelError, match=f"must be the card of '{NAME}', is that of 'other'"):
        fetch_model(listed, folder)


def test_another_file_is_not_overwritten(server: Server, folder: Path, tmp_path: Path) -> None:
    (listed,) = read_list(list_of(server, tmp_path, publish(server))).values()
    folder.mkdir()
    (folder / f"{NAME}.tflite").write_bytes(b"mine")
    with pytest.raises(ModelError, match=f"{NAME}.tflite: is there already and is another file; remove it"):
        fetch_model(listed, folder)
    assert [path.name for path in folder.iterdir()] == [f"{NAME}.tflite"]
    assert (folder / f"{NAME}.tflite").read_bytes() == b"mine"


def test_redirections_stay_with_https(server: Server, folder: Path, tmp_path: Path) -> None:
    card = publish(server)
    (listed,) = read_list(list_of(server, tmp_path, card, url=f"{server.url}/moved.toml")).values()
    server.redirections["/moved.toml"] = f"http://localhost:1/models/{NAME}.toml"
    with pytest.raises(ModelError, match="moved.toml: leads to http://localhost:1/.*only https:// is fetched"):
        fetch_model(listed, folder)


def test_a_server_that_is_not_there(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "localhost")
    (listed,) = read_list(list_of(Server("https://localhost:1"), tmp_path, b"")).values()
    with pytest.raises(ModelError, match=r"https://localhost:1/models/.*toml: cannot be fetched: .*refused"):
        fetch_model(listed, folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file lacks models"),
        ("[model]", "unknown key 'model'; did you mean 'models'"),
        ("[models.a]\nurl = 'https://x/a.toml'", "lacks sha256"),
        (f"[models.a]\nurl = 'http://x/a.toml'\nsha256 = '{'0' * 64}'", "url must be the https:// address of a card"),
        (f"[models.a]\nurl = 'https://x/a.bin'\nsha256 = '{'0' * 64}'", "url must be the https:// address of a card"),
        ("[models.a]\nurl = 'https://x/a.toml'\nsha256 = '00'", "sha256 must be 64 hexadecimal digits"),
        (f"[models.'../a']\nurl = 'https://x/a.toml'\nsha256 = '{'0' * 64}'", "must be named with letters, digits"),
    ],
)
def test_lists_that_are_none(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text(text)
    with pytest.raises(ModelError, match=f"list.toml: .*{message}"):
        read_list(path)


def test_a_model_that_is_not_listed(tmp_path: Path) -> None:
    path = list_of(Server("https://example.org"), tmp_path, b"")
    with pytest.raises(ModelError, match=f"has no model 'gardens-generic', but {NAME}; did you mean '{NAME}'"):
        choose(read_list(path), ["gardens-generic"], path)


def test_a_shipped_models_card_in_the_folder_counts_while_its_file_is_the_shipped_one(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = shipped_models()["rfdcsanet-t-generic"]
    folder.mkdir()
    for suffix in (".toml", ".tflite"):
        shutil.copy(source.with_suffix(suffix), folder)
    assert find_model("rfdcsanet-t", None).path.parent == folder
    assert local_models() == {"rfdcsanet-t-generic": folder / source.name}
    card = folder / source.name
    card.write_text(card.read_text().replace(read_card(source).sha256, "0" * 64))
    assert find_model("rfdcsanet-t", None).path.parent == source.parent
    assert "is of another release of 'rfdcsanet-t-generic'; compile it again" in caplog.text
