"""Auxiliary heads: classifiers of earlier maps that help a deep network to learn (Szegedy et al. 2015, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from sightline.nn.backbones.features import Network


@dataclass(frozen=True)
class AuxHead:
    """An auxiliary head of a network.

    Attributes:
        name: name of its logits in `outputs`.
        module: name of the module. Its last `nn.Linear` gives the logits.
        layer: name of the layer whose output it takes.
    """

    name: str
    module: str
    layer: str


class NetworkWithHeads(Network):
    """A classification network with auxiliary heads, which `outputs` computes and `forward` does not.

    Subclasses implement `layers` and `classify`.

    Attributes:
        aux_heads: the auxiliary heads that the network has.
    """

    aux_heads: tuple[AuxHead, ...] = ()

    def classify(self, x: Tensor) -> Tensor:
        """The output of the last of `layers` → logits [N, num_classes]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → logits [N, num_classes]."""
        for layer in self.layers().values():
            x = layer(x)
        return self.classify(x)

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """[N, C, H, W] → logits [N, num_classes] by name, for the losses: "out", and one for each auxiliary head."""
        found: dict[str, Tensor] = {}
        for name, layer in self.layers().items():
            x = layer(x)
            found |= {head.name: self.get_submodule(head.module)(x) for head in self.aux_heads if head.layer == name}
        return {"out": self.classify(x), **found}

    def drop_training_parts(self) -> None:
        """Delete the auxiliary heads."""
        drop_aux_heads(self)


def drop_aux_heads(network: nn.Module) -> None:
    """Delete the auxiliary heads of a network, if it has any: only the training of a classifier needs them."""
    if isinstance(network, NetworkWithHeads):
        for head in network.aux_heads:
            delattr(network, head.module)
        network.aux_heads = ()
