"""YOLOX-Nano, without its batch normalisations: the teacher on pictures, and the student on packed RAW.

Ge, Liu, Wang, Li, Sun: "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430: a CSP backbone of depthwise
convolutions, a path-aggregating neck, and at strides of 8, 16 and 32 pixels a head with branches for boxes,
objectness and classes. Teacher and student differ in their first convolution only: it reads each 2x2 cell of a picture
as 12 planes, and of a mosaic as the 4 planes R, Gr, Gb, B, at the same resolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_isp.errors import ModelError

STRIDES = (8, 16, 32)
# Of COCO, in the order of the class logits.
CLASS_NAMES = tuple(
    [
        "person",
        "bicycle",
        "car",
        "motorcycle",
        "airplane",
        "bus",
        "train",
        "truck",
        "boat",
        "traffic light",
        "fire hydrant",
        "stop sign",
        "parking meter",
        "bench",
        "bird",
        "cat",
        "dog",
        "horse",
        "sheep",
        "cow",
        "elephant",
        "bear",
        "zebra",
        "giraffe",
        "backpack",
        "umbrella",
        "handbag",
        "tie",
        "suitcase",
        "frisbee",
        "skis",
        "snowboard",
        "sports ball",
        "kite",
        "baseballbat",
        "baseball glove",
        "skateboard",
        "surfboard",
        "tennis racket",
        "bottle",
        "wine glass",
        "cup",
        "fork",
        "knife",
        "spoon",
        "bowl",
        "banana",
        "apple",
        "sandwich",
        "orange",
        "broccoli",
        "carrot",
        "hot dog",
        "pizza",
        "donut",
        "cake",
        "chair",
        "couch",
        "potted plant",
        "bed",
        "dining table",
        "toilet",
        "tv",
        "laptop",
        "mouse",
        "remote",
        "keyboard",
        "cell phone",
        "microwave",
        "oven",
        "toaster",
        "sink",
        "refrigerator",
        "book",
        "clock",
        "vase",
        "scissors",
        "teddy bear",
        "hair drier",
        "toothbrush",
    ]
)
CLASSES = len(CLASS_NAMES)

# Box (x, y, log width, log height in strides), objectness and classes of a level: logits (batch, channels, h, w).
Level = tuple[Tensor, Tensor, Tensor]


class Convolution(nn.Module):
    """A convolution with SiLU.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: side of the kernel, odd.
        stride: 1 or 2.
        depthwise: one group per channel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> None:
        super().__init__()
        groups = inputs if depthwise else 1
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.convolution(x))


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A depthwise 3x3 convolution, then a 1x1.

    Args:
        inputs: channels.
        outputs: channels.
        stride: 1 or 2.
    """
    return nn.Sequential(Convolution(inputs, inputs, 3, stride, depthwise=True), Convolution(inputs, outputs, 1))


class Bottleneck(nn.Module):
    """A 1x1 and a separable convolution, with a residual connection or without.

    Args:
        channels: in and out.
        residual: whether its input is added to its output.
    """

    def __init__(self, channels: int, *, residual: bool) -> None:
        super().__init__()
        self.narrow, self.separable = Convolution(channels, channels, 1), separable(channels, channels)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.separable(self.narrow(x))
        return out + x if self.residual else out


class CSP(nn.Module):
    """One half of the channels through bottlenecks, the other past them (cross stage partial).

    Args:
        inputs: channels.
        outputs: channels.
        bottlenecks: how many.
        residual: whether the bottlenecks have a residual connection.
    """

    def __init__(self, inputs: int, outputs: int, bottlenecks: int, *, residual: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.through, self.past = Convolution(inputs, half, 1), Convolution(inputs, half, 1)
        self.bottlenecks = nn.Sequential(*(Bottleneck(half, residual=residual) for _ in range(bottlenecks)))
        self.join = Convolution(2 * half, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        through, past = self.through(x), self.past(x)
        joined: Tensor = self.join(torch.cat((self.bottlenecks(through), past), 1))
        return joined


class PyramidPooling(nn.Module):
    """The input beside its maxima over 5, 9 and 13 cells.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = Convolution(channels, channels // 2, 1)
        self.pools = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13))
        self.join = Convolution(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.narrow(x)
        joined: Tensor = self.join(torch.cat([x, *(pool(x) for pool in self.pools)], 1))
        return joined


class Head(nn.Module):
    """Of one level.

    Args:
        inputs: channels.
        channels: of its branches.
        classes: how many it tells apart.
    """

    def __init__(self, inputs: int, channels: int = 64, *, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = Convolution(inputs, channels, 1)
        self.class_branch = nn.Sequential(separable(channels, channels), separable(channels, channels))
        self.classes = nn.Conv2d(channels, classes, 1)
        self.box_branch = nn.Sequential(separable(channels, channels), separable(channels, channels))
        self.boxes, self.objectness = nn.Conv2d(channels, 4, 1), nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Level:
        x = self.stem(x)
        classes = self.classes(self.class_branch(x))
        boxes = self.box_branch(x)
        return self.boxes(boxes), self.objectness(boxes), classes


class YoloxNano(nn.Module):
    """(batch, planes, height / 2, width / 2) to boxes, objectness and classes of the strides 8, 16 and 32.

    Args:
        planes: 4 of a mosaic; 12 of a picture (see `picture_planes`).
        classes: how many it tells apart.
    """

    def __init__(self, planes: int = 4, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = Convolution(planes, 16, 3)
        self.stage2 = nn.Sequential(separable(16, 32, 2), CSP(32, 32, 1))
        self.stage3 = nn.Sequential(separable(32, 64, 2), CSP(64, 64, 3))
        self.stage4 = nn.Sequential(separable(64, 128, 2), CSP(128, 128, 3))
        self.stage5 = nn.Sequential(separable(128, 256, 2), PyramidPooling(256), CSP(256, 256, 1, residual=False))
        self.lateral5 = Convolution(256, 128, 1)
        self.down4 = CSP(256, 128, 1, residual=False)
        self.lateral4 = Convolution(128, 64, 1)
        self.down3 = CSP(128, 64, 1, residual=False)
        self.stride3 = separable(64, 64, 2)
        self.up4 = CSP(128, 128, 1, residual=False)
        self.stride4 = separable(128, 128, 2)
        self.up5 = CSP(256, 256, 1, residual=False)
        self.heads = nn.ModuleList(Head(channels, classes=classes) for channels in (64, 128, 256))

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the heads read: of strides 8, 16 and 32.

        Args:
            x: planes, see the class.
        """
        third = self.stage3(self.stage2(self.stem(x)))
        fourth = self.stage4(third)
        lateral5 = self.lateral5(self.stage5(fourth))
        lateral4 = self.lateral4(self.down4(torch.cat((_twice(lateral5), fourth), 1)))
        out3 = self.down3(torch.cat((_twice(lateral4), third), 1))
        out4 = self.up4(torch.cat((self.stride3(out3), lateral4), 1))
        out5 = self.up5(torch.cat((self.stride4(out4), lateral5), 1))
        return out3, out4, out5

    def answers(self, features: Sequence[Tensor]) -> tuple[Level, Level, Level]:
        """What the heads say of `features`.

        Args:
            features: of the three levels.
        """
        first, second, third = (head(x) for head, x in zip(self.heads, features, strict=True))
        return first, second, third

    def forward(self, x: Tensor) -> tuple[Level, Level, Level]:
        return self.answers(self.features(x))


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def picture_planes(rgb: Tensor) -> Tensor:
    """sRGB pictures (batch, 3, height, width), 0 to 1, to the teacher's planes: the pixels (0,0), (1,0), (0,1) and
    (1,1) (row, column) of each cell, blue, green and red, 0 to 255.

    Args:
        rgb: of even sizes.
    """
    bgr = rgb.flip(1) * 255
    return torch.cat((bgr[..., 0::2, 0::2], bgr[..., 1::2, 0::2], bgr[..., 0::2, 1::2], bgr[..., 1::2, 1::2]), 1)


def load_teacher(path: Path) -> YoloxNano:
    """The network on pictures, from an ONNX file of YOLOX-Nano: its convolutions in the order in which they run.

    Args:
        path: of the ONNX file.

    Raises:
        ModelError: the file is not one of YOLOX-Nano.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path}: cannot be read as ONNX: {error}") from error
    constants = {
        tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer
    }
    found = [[constants[name] for name in node.input[1:]] for node in model.graph.node if node.op_type == "Conv"]
    teacher = YoloxNano(planes=12)
    own = _in_order(teacher)
    if len(found) != len(own):
        raise ModelError(f"{path}: is not YOLOX-Nano: expected {len(own)} convolutions, found {len(found)}")
    with torch.no_grad():
        for convolution, (weight, bias) in zip(own, found, strict=True):
            if weight.shape != convolution.weight.shape:
                raise ModelError(
                    f"{path}: is not YOLOX-Nano: expected a convolution of {tuple(convolution.weight.shape)}, "
                    f"found {tuple(weight.shape)}"
                )
            convolution.weight.copy_(weight)
            assert convolution.bias is not None
            convolution.bias.copy_(bias)
    return teacher.eval()


def _in_order(network: YoloxNano) -> list[nn.Conv2d]:
    """Its convolutions in the order in which they run."""
    order: list[nn.Module] = []
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_pre_hook(lambda module, _: order.append(module)) for module in convolutions]
    with torch.no_grad():
        network(torch.zeros(1, network.stem.convolution.in_channels, 16, 16))
    for hook in hooks:
        hook.remove()
    return [module for module in order if isinstance(module, nn.Conv2d)]


def fold(teacher: YoloxNano) -> YoloxNano:
    """The student before it learns: the teacher, its first convolution folded to a mosaic of 0 to 1.

    A mosaic has one colour a pixel: red and blue stand for those of all four pixels of their cell, each green for its
    own pixel's and for half of those of the two pixels that have none.

    Args:
        teacher: is not changed.
    """
    student = YoloxNano(planes=4)
    state = teacher.state_dict()
    weight = state["stem.convolution.weight"].unflatten(1, (4, 3)) * 255  # pixels (0,0) (1,0) (0,1) (1,1), by BGR
    blue, green, red = weight.unbind(2)
    between = (green[:, 0] + green[:, 3]) / 2
    planes = (red.sum(1), green[:, 2] + between, green[:, 1] + between, blue.sum(1))
    student.load_state_dict({**state, "stem.convolution.weight": torch.stack(planes, 1)})
    return student


@torch.no_grad()
def with_classes(student: YoloxNano, classes: int) -> YoloxNano:
    """A copy that tells other classes apart: each head's last layer for the classes is random, as large as it was.

    Args:
        student: is not changed.
        classes: how many the copy tells apart.
    """
    out = YoloxNano(student.stem.convolution.in_channels, classes)
    kept = {name: value for name, value in student.state_dict().items() if not _is_class_layer(name)}
    out.load_state_dict(kept, strict=False)
    for new, old in zip(class_layers(out), class_layers(student), strict=True):
        nn.init.normal_(new.weight, std=float(old.weight.std()))
        assert new.bias is not None
        nn.init.zeros_(new.bias)
    return out


def class_layers(network: YoloxNano) -> list[nn.Conv2d]:
    """Of each head the last layer for the classes.

    Args:
        network: whose heads they are.
    """
    return [
        module for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and _is_class_layer(name)
    ]


def class_count(state: Mapping[str, Tensor]) -> int:
    """How many classes the network of some weights tells apart; COCO's where they are of another network.

    Args:
        state: the weights by name.
    """
    return next((len(weight) for name, weight in state.items() if _is_class_layer(name)), CLASSES)


def _is_class_layer(name: str) -> bool:
    return name.startswith("heads.") and name.split(".")[2:3] == ["classes"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """All cells of all levels, first those of stride 8: batch x cells.

    Attributes:
        boxes: (batch, cells, 4): x0, y0, x1, y1 in pixels of the mosaic.
        objectness: probabilities, (batch, cells).
        classes: probabilities, (batch, cells, classes).
    """

    boxes: Tensor
    objectness: Tensor
    classes: Tensor


def decode(levels: Sequence[Level]) -> Decoded:
    """Logits to boxes and probabilities.

    Args:
        levels: of the strides 8, 16 and 32.
    """
    boxes, objectness, classes = [], [], []
    for stride, (box, object_logit, class_logits) in zip(STRIDES, levels, strict=True):
        rows, columns = torch.meshgrid(torch.arange(box.shape[2]), torch.arange(box.shape[3]), indexing="ij")
        corner = torch.stack((columns, rows)).to(box)
        centre, size = (box[:, :2] + corner) * stride, box[:, 2:].exp() * stride
        boxes.append(torch.cat((centre - size / 2, centre + size / 2), 1).flatten(2).transpose(1, 2))
        objectness.append(object_logit.sigmoid().flatten(1))
        classes.append(class_logits.sigmoid().flatten(2).transpose(1, 2))
    return Decoded(torch.cat(boxes, 1), torch.cat(objectness, 1), torch.cat(classes, 1))
