"""A classifier of patches → a fully convolutional network with the same weights."""

from __future__ import annotations

from typing import Any

from torch import fx, nn
from torch.fx.node import map_aggregate

from fullconv.errors import FullconvError
from fullconv.surgery._beside import beside
from fullconv.surgery._capture import capture
from fullconv.surgery._heads import NOT_FOLLOWED, converted, finished
from fullconv.surgery._rewriting import Call, Rewriting, Value
from fullconv.surgery._sizes import check_sizes
from fullconv.tracing import hollow


def convolutionalize(
    classifier: nn.Module, patch: tuple[int, ...], channels: int = 3
) -> fx.GraphModule:
    """Return the fully convolutional network that a classifier of patches is, on images of any size.

    Linear layers become convolutions with the same weights: the first of the size that the feature map
    has on a patch, the others of size 1. Global and adaptive pooling becomes the pooling over a fixed
    window that it is on a patch. What else follows (norms, activations, dropout, several heads) is done
    at every position. On a patch the answer is that of the classifier; on a larger image there is a unit
    wherever the network's stride puts a patch, and unit (i, j) is the classifier's answer for the
    sub-image cropped there, but for three cases. With padding inside the network a cropped patch sees
    zeros where the map sees image; the last windows of a pooling in ceil mode end with a cropped patch,
    where the map goes on; and squeeze-and-excite is done as below. `fullconv.verify` measures by how much.

    Squeeze-and-excite looks at all of the patch from every position. Here each position is scaled by
    what the block makes of the window of the patch's size around it (moved inside at the image's border),
    so that on a patch nothing changes and on images it stays local, with a very large field. A cropped
    patch has one such factor for all of its positions.

    Args:
        classifier: Takes ``(batch, channels, *patch)``, returns ``(batch, classes)``, or several such.
        patch: The patch that it classifies, in px per axis.
        channels: Channels of the image.

    Returns:
        A network that returns ``(batch, classes, *map)``, in the mode of the classifier, which is left as
        it was and shares its weights. What training would do other than evaluation, but for dropout and
        norms (auxiliary outputs), is not in it. Its ``meta["patch"]`` is the patch, ``meta["beside"]``
        which of the three cases it has, in words.

    Raises:
        SurgeryError: If a layer cannot be rewritten, looks at the whole image (GroupNorm, attention), or
            pads or crops by what depends on its size (TensorFlow's "same"); it names the layer.
        FullconvError: If the classifier does not take the patch, or that is none.

    Examples:
        >>> import torch
        >>> classifier = nn.Sequential(
        ...     nn.Conv2d(3, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 6 * 6, 10)
        ... )
        >>> fcn = convolutionalize(classifier, patch=(16, 16))
        >>> image = torch.randn(1, 3, 40, 60)
        >>> y = fcn(image)
        >>> y.shape
        torch.Size([1, 10, 13, 23])
        >>> crop = image[..., 8:24, 20:36]  # unit (4, 10) at a stride of 2 px
        >>> torch.allclose(y[..., 4, 10], classifier(crop), atol=1e-6)
        True
    """
    _check_classifier(classifier, channels)
    _check_patch(patch)
    captured = capture(classifier)
    rewriting, calls = Rewriting(captured=captured), list[Call]()
    for node in captured.graph.nodes:
        match node.op:
            case "placeholder":
                rewriting.values[node] = rewriting.image(node, channels, patch)
            case "output":
                _finish(rewriting, node)
            case _:
                calls.append(rewriting.call(node))
                rewriting.values[node] = converted(rewriting, calls[-1])
    fcn = rewriting.network(f"Convolutional{type(classifier).__name__}")
    check_sizes(captured, hollow(fcn).eval(), fcn.graph, (channels, *patch))
    fcn.meta["patch"] = tuple(patch)
    fcn.meta["beside"] = beside(calls, fcn)
    return fcn


def _check_classifier(classifier: Any, channels: Any) -> None:
    if not isinstance(classifier, nn.Module):
        raise FullconvError(
            f"`classifier` must be a network, an instance of torch.nn.Module, got {classifier!r}"
        )
    if type(channels) is not int or channels < 1:
        raise FullconvError(
            f"`channels` must be a whole number of at least 1, such as 3, got {channels!r}"
        )


def _check_patch(patch: Any) -> None:
    if not isinstance(patch, tuple | list) or not all(type(n) is int and n > 0 for n in patch):
        raise FullconvError(
            f"`patch` must be whole px of at least 1, one for each axis, such as (224, 224), got {patch!r}"
        )


def _finish(rewriting: Rewriting, node: fx.Node) -> None:
    """Let the new network return what the classifier returns, as maps."""
    call = Call(node=node, args=(), kwargs={}, old=None, ops=())

    def answer(leaf: Any) -> Any:
        if not isinstance(leaf, fx.Node):
            return leaf
        value = rewriting.values[leaf]
        if value.is_tensor and value.kind == "map" and _has_lost_axes(value):
            call.refuse(rewriting, "an answer does not grow with the image", NOT_FOLLOWED)
        return finished(rewriting, call, value).node if value.is_tensor else value.node

    rewriting.graph.output(map_aggregate(node.args[0], answer))


def _has_lost_axes(value: Value) -> bool:
    """Return whether what is made of the image lacks some of its axes; constants have none to lose."""
    axes, made_of, new = len(value.new) - 1, set[fx.Node](), [value.node]
    while new:
        node = new.pop()
        made_of.add(node)
        new += [n for n in node.all_input_nodes if n not in made_of]
    return len(value.growing_dims) < axes and any(node.op == "placeholder" for node in made_of)
