"""What a pipeline is given: options, and a camera or what opens one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_isp.calibration.profile import load_profile
from edge_isp.cameras.replay import ReplayCamera
from edge_isp.cameras.synthetic import SyntheticCamera
from edge_isp.errors import ModelError, PipelineError
from edge_isp.models.card import ModelCard, find_model
from edge_isp.pipeline import ModelOptions, Pipeline, QueuePolicy, StreamOptions
from edge_isp.tasks.detect import DetectTask
from edge_isp.tasks.isp import IspTask
from tests.support.scripted import ScriptedCamera, ScriptedEngine, engine

__all__ = ["engine"]

SCRIPTED = ModelOptions(engine="scripted")


class MyCamera(ScriptedCamera):
    """Opens without arguments, as a user's class may."""

    def __init__(self) -> None:
        super().__init__(range(3), live=False)


class Indexed(ScriptedCamera):
    def __init__(self, index: int) -> None:
        super().__init__(range(index))


def test_a_class_opens_the_camera_itself(engine: type[ScriptedEngine]) -> None:
    with Pipeline(MyCamera, SCRIPTED) as pipeline:
        assert pipeline.camera is None
        assert [done.sequence for done in pipeline] == [0, 1, 2]
        assert isinstance(pipeline.camera, MyCamera)


def test_a_camera_is_closed_with_the_pipeline_even_if_it_never_started(engine: type[ScriptedEngine]) -> None:
    camera = MyCamera()
    with Pipeline(camera, SCRIPTED) as pipeline:
        assert pipeline.camera is camera
    assert camera.closed.is_set()


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (None, "camera must be a camera .*or a function or class that opens one, such as lambda: .*NoneType"),
        ("v4l2:0", "found str 'v4l2:0'; edge_isp.open_camera opens a camera by its specification"),
        (Path("scene.raw"), "found PosixPath 'scene.raw'; edge_isp.open_camera"),
        (Indexed, r"Indexed is called without arguments, but: missing .*'index'; .* such as lambda: Indexed\(...\)"),
        (lambda index: ScriptedCamera(range(index)), "called without arguments, but: missing .*'index'"),
    ],
)
def test_what_is_no_camera_is_one_clear_error(camera: Any, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        Pipeline(camera)


def test_a_function_that_returns_no_camera(engine: type[ScriptedEngine]) -> None:
    opened: list[ScriptedCamera] = []

    def forgets_to_return() -> None:
        opened.append(MyCamera())

    with (
        Pipeline(forgets_to_return, SCRIPTED) as pipeline,  # type: ignore[arg-type]
        pytest.raises(PipelineError, match="forgets_to_return must return a camera .*, returned NoneType"),
    ):
        pipeline.start()


def test_options_of_a_model() -> None:
    options = ModelOptions.of("rfdcsanet-m")
    assert options == ModelOptions("rfdcsanet-m")
    assert ModelOptions.of(options) is options
    isp, detector = find_model("rfdcsanet-s", None), find_model("raw-detector", None)
    assert isinstance(ModelOptions().task(isp), IspTask)
    task = ModelOptions(input_size=320, confidence=0.5).task(detector)
    assert isinstance(task, DetectTask)
    with pytest.raises(ModelError, match="are a detector's"):
        ModelOptions(confidence=0.5).task(isp)
    made: list[ModelCard] = []

    def make_task(card: ModelCard) -> IspTask:
        made.append(card)
        return IspTask(card)

    ModelOptions(make_task=make_task).task(isp)
    assert made == [isp]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 320, "profile": load_profile("imx219")}, "so profile, input_size would be ignored"),
        ({"correct_shading": True}, "so correct_shading would be ignored"),
        ({"confidence": 0.1}, "so confidence would be ignored"),
    ],
)
def test_options_that_a_task_of_ones_own_would_ignore(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        ModelOptions(make_task=IspTask, **options)


def test_wrong_kinds_of_options_are_one_clear_error(
    engine: type[ScriptedEngine], recording: Callable[..., Path]
) -> None:
    wrong: Any
    for wrong, message in ((Path("a.tflite"), "model must be a name, .*found PosixPath"), (3, "found int 3")):
        with pytest.raises(PipelineError, match=message):
            Pipeline(MyCamera, wrong)
    wrong = QueuePolicy.LATEST
    with pytest.raises(PipelineError, match="stream must be StreamOptions, found QueuePolicy"):
        Pipeline(MyCamera, "rfdcsanet-s", wrong)
    wrong = "latest"
    with pytest.raises(PipelineError, match="QueuePolicy.parse reads a policy's name.*found str 'latest'"):
        StreamOptions(policy=wrong)


def test_shipped_cameras_are_told_from_their_classes(recording: Callable[..., Path], tmp_path: Path) -> None:
    with Pipeline(ReplayCamera(recording())) as pipeline:
        assert isinstance(pipeline.camera, ReplayCamera)
    with pytest.raises(PipelineError, match="SyntheticCamera is called without arguments, but: missing .*'photo'"):
        Pipeline(SyntheticCamera)  # type: ignore[arg-type]
