"""Linear layers whose products round alike on the x86-64 CPUs of all vendors."""

import torch.nn.functional as F
from torch import Tensor, nn


class PaddedLinear(nn.Linear):
    """nn.Linear, padded inside with zeros to sizes for which all x86-64 CPUs round alike.

    The batch is a size of the weight's gradient, so it is padded in training.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs [..., in_features] → [..., out_features]."""
        if inputs.dim() != 2:
            product = self(inputs.reshape(-1, self.in_features))
            return product.reshape(*inputs.shape[:-1], self.out_features)
        batch = len(inputs)
        rows = self.out_features
        columns = padded(self.in_features)
        inputs = pad(inputs, padded(batch) if self.training else batch, columns)
        weight = pad(self.weight, padded(rows), columns)
        bias = None if self.bias is None else pad(self.bias[None], 1, padded(rows))[0]
        product = F.linear(inputs, weight, bias)
        # A slice would be a view, which an activation in place would copy.
        return product if product.shape == (batch, rows) else product[:batch, :rows]


def pad_linear_layers(module: nn.Module) -> None:
    """Replace every nn.Linear in a module by a PaddedLinear with the same weights."""
    for name, layer in list(module._modules.items()):  # unlike children(), all names of a layer
        if type(layer) is nn.Linear:
            replacement = PaddedLinear(layer.in_features, layer.out_features, device="meta")
            replacement.weight, replacement.bias = layer.weight, layer.bias
            setattr(module, name, replacement.train(layer.training))
        elif layer is not None:
            pad_linear_layers(layer)


def padded(size: int) -> int:
    """A size of a matrix, not below `size`, for which MKL rounds alike everywhere.

    Even in its reproducible mode, MKL rounds differently on Intel CPUs than on those of other
    vendors for fewer than 12 columns, for vectors, and for sums of 193 to 257 products, which one
    of them seems to divide. Found by comparing an Intel Xeon with an emulated AMD EPYC.
    """
    if 192 < size < 258:
        return 264
    return max(size, 16)


def pad(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """Append rows and columns of zeros to a matrix [r, c] → [rows, columns]."""
    missing = (0, columns - matrix.shape[1], 0, rows - matrix.shape[0])
    return F.pad(matrix, missing) if any(missing) else matrix
