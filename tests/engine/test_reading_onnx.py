"""Networks that PyTorch's two exporters wrote open as their own layers, to the same outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.formats import read_network

WORDS = 50
pytestmark = [
    # Tracing a recurrent layer, the older exporter remarks on its checks of shapes.
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    # The newer one, on gradients that its own loop looks for.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down: nn.Module = nn.Identity()
        if stride != 1:
            self.down = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.down(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        self.stage1 = nn.Sequential(Residual(8, 8), Residual(8, 8))
        self.stage2 = nn.Sequential(Residual(8, 16, 2))
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(self.stem(x)))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class MobileNet(nn.Module):
    """Depthwise, squeeze and excitation, the hard activations, a sigmoid-weighted unit."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.depth = nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.point = nn.Conv2d(8, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.stem(x))
        y = functional.hardswish(self.norm(self.depth(x)))
        gate = functional.silu(self.squeeze(functional.adaptive_avg_pool2d(y, 1)))
        x = x + y * functional.hardsigmoid(self.excite(gate))
        return self.head(functional.hardswish(self.point(x)).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.1))
        self.down2 = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ELU())
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.join = nn.Conv2d(16, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(functional.max_pool2d(first, 2))
        y = self.join(torch.cat([self.up(second), first], 1))
        y = functional.avg_pool2d(y, 2)
        return self.out(functional.interpolate(y, scale_factor=2.0, mode="bilinear"))


class Block(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.ln1 = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16)
        self.ln2 = nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, width = x.shape
        heads = self.qkv(self.ln1(x)).reshape(batch, steps, 3, 2, width // 2)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, steps, width))
        return x + self.mlp(self.ln2(x))


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.position = nn.Parameter(torch.randn(1, 17, 16))
        self.blocks = nn.Sequential(Block(causal=False), Block(causal=False))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(WORDS, 16)
        self.positions = nn.Embedding(12, 16)
        self.blocks = nn.ModuleList([Block(causal=True)])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, WORDS, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            y = block(y)
        return self.head(self.norm(y))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 8)
        self.lstm = nn.LSTM(8, 12, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(24, 6, batch_first=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(self.lstm(self.words(x))[0])
        return self.fc(y[:, -1])


NETWORKS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "resnet": (ResNet, (3, 32, 32)),
    "mobilenet": (MobileNet, (3, 32, 32)),
    "unet": (UNet, (3, 16, 16)),
    "vit": (VisionTransformer, (3, 16, 16)),
    "gpt": (LanguageModel, (12,)),
    "recurrent": (Recurrent, (9,)),
}


def built(name: str) -> tuple[nn.Module, Callable[[int], Tensor]]:
    """Return a network with settled norms and a function that gives a batch for it."""
    torch.manual_seed(0)
    kind, shape = NETWORKS[name]
    module = kind().eval()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, 0.0, 0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    for parameter in module.parameters():
        # No two tensors are equal: the exporters would write them as one.
        nn.init.normal_(parameter, 0.0, 0.3)

    def batch(count: int) -> Tensor:
        if len(shape) == 1:
            return torch.randint(0, WORDS, (count, *shape))
        return torch.randn(count, *shape)

    return module, batch


def exported(module: nn.Module, example: Tensor, path: Path, **options: Any) -> Path:
    settings = {"external_data": False, "verbose": False, "input_names": ["x"], **options}
    torch.onnx.export(module, (example,), path, **settings)
    return path


def error(network: Network, module: nn.Module, data: Tensor) -> float:
    with torch.no_grad():
        expected, given = module(data), network.outputs(data)[0]
    assert given.shape == expected.shape
    return float((given - expected).abs().max() / expected.abs().max())


def kinds(network: Network) -> dict[str, str]:
    return {name: type(layer).__name__ for name, layer in network.layers()}


@pytest.mark.parametrize("name", NETWORKS)
def test_that_the_older_exporters_files_open_with_layers_and_parameters_unchanged(
    name: str, tmp_path: Path
) -> None:
    module, batch = built(name)
    free = {"x": {0: "batch"}, "y": {0: "batch"}}
    path = exported(
        module,
        batch(2),
        tmp_path / "net.onnx",
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamic_axes=free,
        output_names=["y"],
    )
    network = read_network(Source(path=str(path)))
    assert network.graph_lock == ""
    assert network.dynamic_batch
    assert error(network, module, batch(3)) < 1e-5
    assert kinds(network) == kinds(capture(module, (batch(2),)))
    own = dict(module.named_parameters())
    for layer_name, layer in network.layers():
        for parameter_name, parameter in layer.named_parameters():
            assert torch.equal(parameter, own[f"{layer_name}.{parameter_name}"])


@pytest.mark.parametrize("name", ["mobilenet", "gpt", "recurrent"])
def test_that_the_newer_exporters_files_open_with_layers_under_their_names(
    name: str, tmp_path: Path
) -> None:
    module, batch = built(name)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    path = exported(module, batch(2), tmp_path / "net.onnx", dynamo=True, dynamic_shapes=shapes)
    network = read_network(Source(path=str(path)))
    assert network.graph_lock == ""
    assert network.dynamic_batch
    assert error(network, module, batch(3)) < 1e-5
    source = kinds(capture(module, (batch(2),)))
    opened = kinds(network)
    # Export folds batch norm into the convolution and looks the fixed positions up.
    folded = {key for key in source if key not in opened}
    assert folded <= {"norm", "positions"} if name != "gpt" else {"positions"}
    assert opened == {key: kind for key, kind in source.items() if key not in folded}


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "vit", "recurrent"])
def test_that_a_file_made_from_one_sample_opens_with_a_free_batch(
    name: str, tmp_path: Path
) -> None:
    module, batch = built(name)
    path = exported(module, batch(1), tmp_path / "net.onnx", dynamo=False)
    network = read_network(Source(path=str(path)))
    assert network.example[0].shape[0] == 1
    assert network.dynamic_batch
    assert error(network, module, batch(3)) < 1e-5
    assert any("free batch" in note for note in network.notes)


def test_that_a_network_that_mixes_samples_keeps_its_batch_fixed(tmp_path: Path) -> None:
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean()

    path = exported(Mixing(), torch.randn(1, 4), tmp_path / "net.onnx", dynamo=False)
    network = read_network(Source(path=str(path)))
    assert not network.dynamic_batch
    assert network.notes == ("The file fixes the batch at 1.",)


def test_that_folded_batch_norm_keeps_the_names_of_convolutions(tmp_path: Path) -> None:
    module, batch = built("resnet")
    path = exported(module, batch(2), tmp_path / "net.onnx", dynamo=False)
    network = read_network(Source(path=str(path)))
    assert error(network, module, batch(2)) < 1e-5
    assert list(kinds(network)) == [
        "stem.0",
        "stage1.0.conv1",
        "stage1.0.conv2",
        "stage1.1.conv1",
        "stage1.1.conv2",
        "stage2.0.conv1",
        "stage2.0.conv2",
        "stage2.0.down.0",
        "fc",
    ]


def test_that_weights_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    module, batch = built("mobilenet")
    path = exported(module, batch(2), tmp_path / "net.onnx", dynamo=False)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
    network = read_network(Source(path=str(path)))
    assert error(network, module, batch(2)) < 1e-5
    files = [path, tmp_path / "net.data"]
    assert survey(network).file_bytes == sum(file.stat().st_size for file in files)
    (tmp_path / "net.data").write_bytes(b"short")
    with pytest.raises(UserError, match=r"net\.onnx is damaged"):
        read_network(Source(path=str(path)))
    (tmp_path / "net.data").unlink()
    with pytest.raises(UserError, match=r"net\.data, which is not there"):
        read_network(Source(path=str(path)))


def test_that_half_precision_opens_as_float32_with_a_note(tmp_path: Path) -> None:
    module, batch = built("mobilenet")
    data = batch(2)
    path = exported(module.half(), data.half(), tmp_path / "net.onnx", dynamo=False)
    network = read_network(Source(path=str(path)))
    assert error(network, module.float(), data) < 1e-3
    assert any("float16" in note for note in network.notes)


def test_that_a_free_size_has_to_be_given_with_a_guess_to_try(tmp_path: Path) -> None:
    module, batch = built("unet")
    free = {"x": {0: "batch", 2: "height", 3: "width"}}
    path = exported(module, batch(2), tmp_path / "net.onnx", dynamo=False, dynamic_axes=free)
    with pytest.raises(UserError, match="height, width") as caught:
        read_network(Source(path=str(path)))
    assert "--input 1x3x224x224" in caught.value.hint
    network = read_network(Source(path=str(path), input_shapes=((1, 3, 16, 16),)))
    assert error(network, module, batch(2)) < 1e-5
    with pytest.raises(UserError, match="takes 1 inputs"):
        read_network(Source(path=str(path), input_shapes=((1, 3), (1, 3))))


@pytest.mark.parametrize(("version", "fits"), [(9, True), (13, True), (6, False), (99, False)])
def test_that_old_operator_sets_open_and_unknown_ones_are_told(
    version: int, fits: bool, tmp_path: Path
) -> None:
    module, batch = built("resnet")
    path = exported(
        module, batch(2), tmp_path / "net.onnx", dynamo=False, opset_version=version if fits else 13
    )
    if fits:
        assert error(read_network(Source(path=str(path))), module, batch(2)) < 1e-5
        return
    model = onnx.load(path)
    model.opset_import[0].version = version
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=f"operator set {version}"):
        read_network(Source(path=str(path)))
