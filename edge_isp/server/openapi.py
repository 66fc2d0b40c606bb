"""The OpenAPI document of the live view."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_isp import __version__
from edge_isp.server.messages import CamerasStatus, ControlsRequest, Problem, RecordingRequest, Status, ToneRequest

_VIEW = {
    "name": "view",
    "in": "query",
    "description": "The network's picture, or the classical one; by default the first that there is.",
    "schema": {"type": "string", "enum": ["network", "classical"]},
}
_PROBLEMS = {
    400: "The request is malformed.",
    401: "The token is missing or wrong.",
    403: "The host or the origin is not this server's.",
    409: "The camera or the recorder cannot do that now.",
    413: "The body is too long.",
    415: "The body is not JSON.",
    503: "There is nothing to show yet, or too many clients.",
}
_CHANGES = (400, 401, 403, 409, 413, 415)


def openapi(*, needs_token: bool, base: str = "") -> dict[str, Any]:
    """The document of one camera, of version 3.1.

    Args:
        needs_token: whether requests need a token.
        base: path that the addresses are below.
    """
    requests = (ControlsRequest, ToneRequest, RecordingRequest)
    references, schemas = msgspec.json.schema_components(
        (*requests, Status, Problem), ref_template="#/components/schemas/{name}"
    )
    controls, tone, recording, status, problem = references
    answer = _content("application/json", status)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "edge_isp live view",
            "version": __version__,
            "description": "What a camera and its models do now, and the settings that can be changed. A change needs "
            "the header `Origin` of the page, or the token.",
        },
        "paths": {
            "/stream.mjpg": _get(
                "Pictures as they come", {"multipart/x-mixed-replace": {}}, 400, 503, parameters=[_VIEW], endless=True
            ),
            "/detections": _get(
                "Detections as they come, as server-sent events of JSON", {"text/event-stream": {}}, 503, endless=True
            ),
            "/snapshot.jpg": _get("The newest picture", _binary("image/jpeg"), 400, 503, parameters=[_VIEW]),
            "/snapshot.png": _get("The newest picture", _binary("image/png"), 400, 503, parameters=[_VIEW]),
            "/snapshot.dng": _get("The newest RAW frame", _binary("image/x-adobe-dng"), 409, 503),
            "/metrics": _get("Metrics for Prometheus", _text()),
            "/healthz": _get("Whether the service responds", _text(), also={503: _text()}),
            "/readyz": _get("Whether results arrive", _text(), also={503: _text()}),
            "/api/status": _get("All numbers", answer),
            "/api/controls": _post("Change settings of the camera", controls, answer),
            "/api/tone": _post("Change brightness, contrast and tone curve of the pictures", tone, answer),
            "/api/recording/start": _post("Start a recording", recording, answer),
            "/api/recording/stop": _post("Complete the recording that runs", None, answer),
            "/api/recording/trigger": _post("Begin an event, or make the present one longer", None, answer),
        },
        "components": {"schemas": schemas, "responses": _problem_responses(problem)},
    }
    if base:
        document["servers"] = [{"url": base}]
    return _secured(document) if needs_token else document


def openapi_of_cameras(names: list[str], *, needs_token: bool) -> dict[str, Any]:
    """The document of several cameras together, of version 3.1; each camera has one of its own.

    Args:
        names: of the cameras.
        needs_token: whether requests need a token.
    """
    (status, problem), schemas = msgspec.json.schema_components(
        (CamerasStatus, Problem), ref_template="#/components/schemas/{name}"
    )
    own = ", ".join(f"/cameras/{name}/api/openapi.json" for name in names)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "edge_isp live view of several cameras",
            "version": __version__,
            "description": f"What all cameras do now. Documents of the cameras' own addresses: {own}",
        },
        "paths": {
            "/stream.mjpg": _get(
                "Small pictures of all cameras as they come, each part with X-Camera",
                {"multipart/x-mixed-replace": {}},
                503,
                endless=True,
            ),
            "/metrics": _get("Metrics for Prometheus", _text()),
            "/healthz": _get("Whether all cameras respond", _text(), also={503: _text()}),
            "/readyz": _get("Whether results arrive from all cameras", _text(), also={503: _text()}),
            "/api/status": _get("All numbers", _content("application/json", status)),
        },
        "components": {"schemas": schemas, "responses": _problem_responses(problem)},
    }
    return _secured(document) if needs_token else document


def _secured(document: dict[str, Any]) -> dict[str, Any]:
    """A document that says which requests need the token."""
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    for path in ("/healthz", "/readyz"):
        document["paths"][path]["get"]["security"] = []
    return document


def _get(
    summary: str,
    content: dict[str, Any],
    *problems: int,
    parameters: list[dict[str, Any]] | None = None,
    also: dict[int, dict[str, Any]] | None = None,
    endless: bool = False,
) -> dict[str, Any]:
    responses = {"200": {"description": f"{summary}.", "content": content}} | _refused(401, 403, *problems)
    for code, other in (also or {}).items():
        responses[str(code)] = {"description": "It is not.", "content": other}
    operation: dict[str, Any] = {"summary": f"{summary}.", "responses": responses}
    if endless:
        operation["description"] = "The answer goes on until the client or the server ends it."
    return {"get": operation | ({"parameters": parameters} if parameters else {})}


def _post(summary: str, body: dict[str, Any] | None, answer: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": f"{summary}.",
        "responses": {"200": {"description": "The numbers after the change.", "content": answer}} | _refused(*_CHANGES),
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _content("application/json", body)}
    return {"post": operation}


def _refused(*codes: int) -> dict[str, Any]:
    return {str(code): {"$ref": f"#/components/responses/{code}"} for code in codes}


def _problem_responses(problem: dict[str, Any]) -> dict[str, Any]:
    return {
        str(code): {"description": text, "content": _content("application/json", problem)}
        for code, text in _PROBLEMS.items()
    }


def _content(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {media_type: {"schema": schema}}


def _text() -> dict[str, Any]:
    return _content("text/plain", {"type": "string"})


def _binary(media_type: str) -> dict[str, Any]:
    return {media_type: {}}
