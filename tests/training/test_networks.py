"""ECB and RFDCSANet: what is merged equals what was trained, borders included."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: the extra [train] brings it")

import torch

from edge_isp.kernels import reference
from edge_isp.kernels.decode import output_table
from edge_isp.training.graph import trace
from edge_isp.training.isp.architectures import ARCHITECTURES
from edge_isp.training.isp.dead_channels import reinitialise_dead_channels
from edge_isp.training.networks.calibrated import CalibratedRFDCSANet
from edge_isp.training.networks.ecb import ECB, merge
from edge_isp.training.networks.rfdcsanet import RFDCSANet, to_picture
from edge_isp.training.quantisation.post_training import quantise


def randomise(module: torch.nn.Module, scale: float = 0.2) -> None:
    """Weights and biases far from their initialisation, so that no branch is negligible."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * scale)


def branches(network: torch.nn.Module, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """The network's output with the five branches of each ECB run one by one."""
    with monkeypatch.context() as patch:
        patch.setattr(ECB, "forward", ECB.branches)
        return network(x)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("in_channels", "out_channels", "identity"),
    [(4, 16, False), (16, 16, False), (16, 16, True), (16, 8, False), (3, 5, False)],
)
def test_merged_ecb_equals_its_five_branches_everywhere(
    in_channels: int, out_channels: int, identity: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    block = ECB(in_channels, out_channels, identity=identity)
    randomise(block)
    x = torch.rand(2, in_channels, 9, 7)
    with torch.no_grad():
        expected = block.branches(x)
        difference = (block.to_conv()(x) - expected).abs()
        assert difference.max() <= 1e-5
        assert (block(x) - expected).abs().max() <= 1e-5
        # The test can fail: padding the inner activations with 0 is wrong at the border, and only there.
        conv = torch.nn.functional.conv2d
        squeezed = conv(block.expand(x), block.squeeze.weight, block.squeeze.bias, padding=1)
        naive = expected - block.squeeze(_framed(block, x)) + squeezed
        assert (naive - expected)[:, :, 1:-1, 1:-1].abs().max() <= 1e-5
        assert (naive - expected).abs().max() > 1e-2


def _framed(block: ECB, x: torch.Tensor) -> torch.Tensor:
    inner = torch.nn.functional.pad(block.expand(x), (1, 1, 1, 1))
    frame = torch.ones_like(inner, dtype=torch.bool)
    frame[:, :, 1:-1, 1:-1] = False
    return torch.where(frame, block.expand.bias[None, :, None, None], inner)


def test_gradients_of_the_merged_forward_are_those_of_the_branches() -> None:
    torch.manual_seed(0)
    block = ECB(4, 6).double()
    randomise(block)
    x = torch.rand(2, 4, 6, 6, dtype=torch.float64)
    gradients = []
    for forward in (block.forward, block.branches):
        block.zero_grad()
        (forward(x) ** 2).sum().backward()
        # The inner bias of an edge branch has no gradient: its filter sums to 0.
        gradients.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in block.parameters()])
    for merged, branch in zip(*gradients, strict=True):
        torch.testing.assert_close(merged, branch)


def test_merged_network_equals_the_multi_branch_network(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = RFDCSANet().eval()
    randomise(network, 0.03)
    x = torch.rand(2, 4, 23, 18)
    with torch.no_grad():
        expected = branches(network, x, monkeypatch)
        merged = merge(network)
        assert not [m for m in merged.modules() if isinstance(m, ECB)]
        assert 0.1 < expected.abs().max() < 100
        assert (merged(x) - expected).abs().max() <= 1e-5
        graph = trace(merged)
        torch.testing.assert_close(graph.run(x)[graph.outputs[0]], merged(x), rtol=0, atol=0)


def test_an_untrained_network_starts_near_the_picture_of_its_anchor() -> None:
    torch.manual_seed(0)
    network = RFDCSANet()
    grey = torch.full((1, 4, 16, 16), 0.5)
    with torch.no_grad():
        assert (network(grey) - 0.5).abs().max() < 0.2
        colours = torch.tensor([0.9, 0.4, 0.5, 0.1])[None, :, None, None].expand(1, 4, 2, 2)
        picture = to_picture(network.anchor(colours))[0, :, :2, :2]
    torch.testing.assert_close(picture[0], torch.full((2, 2), 0.9))
    torch.testing.assert_close(picture[1], torch.tensor([[0.45, 0.4], [0.5, 0.45]]))
    torch.testing.assert_close(picture[2], torch.full((2, 2), 0.1))


def test_planes_become_pictures_as_the_kernels_have_it() -> None:
    planes = np.random.default_rng(0).integers(-128, 128, (5, 6, 12)).astype(np.int8)
    expected = reference.decode_rgb(planes, output_table(1 / 255, -128))
    picture = to_picture(torch.from_numpy(planes.astype(np.int16) + 128).permute(2, 0, 1)[None])
    np.testing.assert_array_equal(picture[0].permute(1, 2, 0).numpy(), expected)


def test_trace_refuses_what_cannot_be_exported() -> None:
    class Pooled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.max_pool2d(x, 2)

    class LoneRelu(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(torch.sigmoid(x))

    with pytest.raises(ValueError, match="is not an operator that can be exported"):
        trace(Pooled())
    with pytest.raises(ValueError, match="a ReLU must follow a convolution or an addition"):
        trace(LoneRelu())


def test_a_larger_network_grows_from_a_smaller_one() -> None:
    torch.manual_seed(0)
    small, large = CalibratedRFDCSANet(blocks=2), CalibratedRFDCSANet(blocks=5)
    large.start_from(small.state_dict())
    x = torch.rand(2, 8, 12, 10)
    with torch.no_grad():
        torch.testing.assert_close(large(x), small(x), atol=1e-6, rtol=1e-5)
    large(x).square().mean().backward()
    for block in large.blocks:  # what was added can learn
        assert block.fuse.weight.grad.abs().sum() > 0
    with pytest.raises(RuntimeError, match="Missing key"):
        large.start_from({"head.plain.weight": torch.zeros(32, 8, 3, 3)})


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_recipe_has_an_integer_graph(name: str) -> None:
    architecture = ARCHITECTURES[name]
    torch.manual_seed(1)
    network, x = architecture.build(), torch.rand(1, architecture.colour.input_planes, 16, 16)
    graph = trace(merge(network).eval())
    with torch.no_grad():
        torch.testing.assert_close(graph.run(x)[graph.outputs[0]], network(x), atol=1e-5, rtol=1e-4)
        quantised = quantise(graph, [x], output=architecture.colour.output)
        assert quantised.run_real(x)[0].shape == network(x).shape


def test_every_channel_of_a_new_network_lives_after_reinitialisation() -> None:
    torch.manual_seed(0)
    network = CalibratedRFDCSANet(blocks=2)
    grey_wedge = torch.linspace(0.1, 1, 32).expand(2, 8, 32, 32)
    x = grey_wedge + 0.01 * torch.randn(2, 8, 32, 32)
    assert reinitialise_dead_channels(network, x) > 15, "many kernels have a negative sum"
    assert reinitialise_dead_channels(network, x) == 0


def test_reinitialisation_leaves_living_channels_alone() -> None:
    torch.manual_seed(0)
    network = CalibratedRFDCSANet(blocks=1)
    x = torch.rand(2, 8, 32, 32)
    reinitialise_dead_channels(network, x)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        network.head.plain.bias[3] = -100
    assert reinitialise_dead_channels(network, x) == 1
    for name, value in network.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(value, weights[name]), name
    living = torch.arange(32) != 3
    assert torch.equal(network.head.plain.weight[living], weights["head.plain.weight"][living])
    assert not torch.equal(network.head.plain.weight[3], weights["head.plain.weight"][3])
    assert torch.equal(network.head.expand.weight, weights["head.expand.weight"]), "belongs to all channels"


def test_blocks_that_start_as_identities_are_alive() -> None:
    """What a grown network's new blocks distil has no weight yet, so that nothing but its start keeps it alive."""
    torch.manual_seed(0)
    network = CalibratedRFDCSANet(blocks=3)
    network.start_from(CalibratedRFDCSANet(blocks=2).state_dict())
    x = torch.rand(2, 8, 32, 32)
    reinitialise_dead_channels(network, x)
    before = network(x)
    with torch.no_grad():
        network.blocks[2].last.plain.bias.fill_(-100)
    assert reinitialise_dead_channels(network, x) == 16
    assert torch.equal(network(x), before)
