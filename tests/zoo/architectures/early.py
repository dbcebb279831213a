"""Plain stacks of convolutions and linear layers: the networks of 1998 to 2014."""

from torch import Tensor, nn


class Lenet300(nn.Sequential):
    """LeNet-300-100 (LeCun et al. 1998): three linear layers on images of digits."""

    def __init__(self, pixels: int = 784, widths: tuple[int, int] = (300, 100)) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(pixels, widths[0]),
            nn.ReLU(),
            nn.Linear(widths[0], widths[1]),
            nn.ReLU(),
            nn.Linear(widths[1], 10),
        )


class Lenet5(nn.Module):
    """LeNet-5 in the form that compression papers use: 20 and 50 filters of 5×5, 500 units."""

    def __init__(self, side: int = 28, widths: tuple[int, int, int] = (20, 50, 500)) -> None:
        super().__init__()
        left = ((side - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(1, widths[0], 5)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 5)
        self.fc1 = nn.Linear(widths[1] * left * left, widths[2])
        self.fc2 = nn.Linear(widths[2], 10)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 1, side, side)."""
        x = self.pool(self.conv2(self.pool(self.conv1(x))))
        return self.fc2(self.fc1(x.view(x.size(0), -1)).relu())


class Alexnet(nn.Module):
    """AlexNet in one column (Krizhevsky 2014, arXiv 1404.5997)."""

    def __init__(
        self,
        filters: tuple[int, ...] = (64, 192, 384, 256, 256),
        units: int = 4096,
        pooled: int = 6,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        a, b, c, d, e = filters
        self.features = nn.Sequential(
            nn.Conv2d(3, a, 11, 4, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(c, d, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(d, e, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.pool = nn.AdaptiveAvgPool2d(pooled)
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(e * pooled**2, units),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(units, units),
            nn.ReLU(inplace=True),
            nn.Linear(units, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, height, width)."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


class Vgg16(nn.Module):
    """Configuration D of Simonyan and Zisserman 2015."""

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 128, 256, 512, 512),
        side: int = 224,
        units: int = 4096,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        given = 3
        for width, count in zip(widths, (2, 2, 3, 3, 3), strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(given, width, 3, padding=1), nn.ReLU(inplace=True)]
                given = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(given * (side // 32) ** 2, units),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(units, units),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(units, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 3, side, side)."""
        x = self.features(x)
        return self.classifier(x.reshape(x.shape[0], -1))


class Nin(nn.Sequential):
    """Network in network for CIFAR-10 (Lin et al. 2014, arXiv 1312.4400)."""

    def __init__(self, width: int = 192, narrow: tuple[int, int] = (160, 96)) -> None:
        def mlpconv(*filters: int, kernel: int) -> list[nn.Module]:
            given, *widths = filters
            layers: list[nn.Module] = []
            for position, made in enumerate(widths):
                size = kernel if position == 0 else 1
                layers += [nn.Conv2d(given, made, size, padding=size // 2), nn.ReLU()]
                given = made
            return layers

        super().__init__(
            *mlpconv(3, width, *narrow, kernel=5),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Dropout(),
            *mlpconv(narrow[1], width, width, width, kernel=5),
            nn.AvgPool2d(3, 2, ceil_mode=True),
            nn.Dropout(),
            *mlpconv(width, width, width, 10, kernel=3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
