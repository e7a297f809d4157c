"""Records the attention of a running model, whatever computes it. Nothing of the model is replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol

import torch
from torch import nn
from torch._C import DisableTorchFunction
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from attnchain_adapters.checks import check_shown, takes_hooks
from attnchain_adapters.recording.attention_calls import AttentionCall, AttentionCalls, heads_of
from attnchain_adapters.recording.patches import Patches
from attnchain_adapters.softmaxes.two_softmaxes import DOUBT, Doubt
from attnchain_adapters.torch_operators import function_of
from attnchain_interp import AttentionError, Factors
from attnchain_interp.capture import Edit, OutputCollector, Shown, of_this_thread
from attnchain_interp.store import LayerSelection, names_given

_FUSED: Final = frozenset((F.scaled_dot_product_attention, F.multi_head_attention_forward))


class Taker(Protocol):
    """Takes the attention of each layer: a `Collector`, or an object that gathers for one."""

    def take(self, name: str, shown: Shown) -> None: ...


class AttentionRecorder(TorchFunctionMode):
    """While open, sees every use of attention in the model, and hands that of the wanted layers to `taker`.

    The layer of a use of attention is the innermost watched module that is running. With an edit, the model goes on with the
    edited maps. The edit gets maps in the graph that the model builds where gradients are enabled; the taker gets them
    detached. The mode belongs to the thread that opened it, and the hooks ignore other threads.

    Args:
        model: the model.
        layers: name of a module to watch → the names of the layers that its calls are, one after another: usually its own name
            alone; several where layers share one module. A module's last name stands for all later calls.
        wanted: the layers to record. Nothing is computed for the others.
        taker: takes their attention; None for a recorder that looks at it, and hands none over.
        edit: layer name and map (batch, head, query, key) → the map that the model goes on with.
        beside: names of modules whose attention is known, and left out.
        batch: the number of examples, where the model's modules do not say how many heads they have.

    Attributes:
        routes: layer → the route by which its attention came. See `AttentionCall`.
        unread: names of the modules and layers that attend and are known, but not wanted.
        strangers: name of a module that attends, is neither watched nor in `beside` → its class, and the reason why its
            attention cannot be read, if there is one.

    Raises:
        AttentionError: dropout is active in the model's attention; a wanted layer attends in a way that shows no map; see also
            `taker.take`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, Sequence[str]],
        wanted: Set[str],
        taker: Taker | None,
        edit: Edit | None = None,
        beside: Iterable[str] = (),
        batch: int | None = None,
    ) -> None:
        super().__init__()
        self.routes: dict[str, str] = {}
        self.unread: dict[str, None] = {}
        self.strangers: dict[str, str] = {}
        self._model, self._taker, self._wanted, self._edit, self._batch = model, taker, wanted, edit, batch
        self._layers, self._beside = dict(layers), frozenset(beside)
        self._calls = dict.fromkeys(self._layers, 0)
        self._running: list[tuple[nn.Module, str, str | None]] = []
        self._owners: list[tuple[nn.Module, str] | None] = [None]
        self._handles: list[RemovableHandle] = []
        self._unreadable: dict[str, str] = {}
        self._doubts: list[tuple[Doubt, Callable[[], object]]] = []  # with what notes it
        self._attention, self._patches = AttentionCalls(), Patches()
        self._output = taker if isinstance(taker, OutputCollector) else None

    def __enter__(self) -> AttentionRecorder:
        followed = [(name, module) for name, module in self._model.named_modules() if self._follows(name, module)]
        leave = of_this_thread(self._leave)
        for name, module in followed:
            enter = of_this_thread(partial(self._enter, name))
            self._handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            self._handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))
        super().__enter__()
        return self

    def _follows(self, name: str, module: nn.Module) -> bool:
        """Returns whether calls of a module are noted. Modules of torch without parts (projections, norms) never attend."""
        own = type(module).__module__.startswith("torch.nn.modules.")
        return takes_hooks(module) and (name in self._layers or bool(module._modules) or not own)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for doubt, note in self._doubts:
            if not doubt.settled:
                note()
        self._doubts.clear()

    def metadata(self, layers: LayerSelection, advice: str, fix: str) -> dict[str, str]:
        """Returns the metadata of a store after the forward: the routes, and the names of the attention that was left unread.

        Args:
            layers: the selection that the user asked for. A selection by names leaves other attention unread, also that of
                strangers. Any other selection counts layers, so that a stranger would change its meaning.
            advice: the fix where a wanted layer showed no map.
            fix: the fix where a module attends that is not a layer of the model, as far as it is known.

        Raises:
            AttentionError: a wanted layer showed no map, or a stranger attends.
        """
        for layer, reason in self._unreadable.items():
            raise AttentionError(f"layer {layer!r} attends, but its map cannot be read: {reason}.", advice)
        check_shown(self.routes, sorted(self._wanted), advice)
        if self.strangers and not names_given(layers):
            found = "; ".join(f"{name} ({reason})" for name, reason in self.strangers.items())
            raise AttentionError(
                f"the forward attends outside of the known layers ({', '.join(self._layers)}), in {found}.",
                fix + " To read the known layers alone, name them: layers=[…].",
            )
        unread = ", ".join([*self.unread, *self.strangers])
        route = ", ".join(sorted(set(self.routes.values())))
        return {"route": route} | ({"unread": unread} if unread else {}) | self._patches.metadata

    def _enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        layer = None
        if name in self._layers:
            several = self._layers[name]
            layer = several[min(self._calls[name], len(several) - 1)]
            self._calls[name] += 1
        self._running.append((module, name, layer))
        self._owners.append(self._owners[-1] if layer is None else (module, layer))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._running:
            self._running.pop()
            self._owners.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.compiler.is_compiling():
            return func(*args, **(kwargs or {}))
        kwargs, function = kwargs or {}, function_of(func)
        if function in _FUSED and not self._reads():
            self._pass_by("")
            return func(*args, **kwargs)
        if function is F.multi_head_attention_forward:
            call, result = self._attention.multi_head(args, kwargs)
        else:
            result = func(*args, **kwargs)
            call = self._seen(function, args, kwargs, result)
            self._patches.see(function, args, kwargs, result)
        if isinstance(call, Doubt):
            self._doubt(call)
            return result
        if call is None:
            return result
        if not self._reads():
            self._pass_by(call)
            return result
        return self._read(call, result)

    def _seen(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> AttentionCall | Doubt | str | None:
        try:
            return self._attention.seen(function, args, kwargs, result)
        except AttentionError as error:
            owner, running = self._owner(), self._running[-1:]
            name = owner[1] if owner is not None else running[0][1] if running else ""
            if not name:
                raise
            raise AttentionError(f"layer {name!r}: {error}") from None

    def _owner(self) -> tuple[nn.Module, str] | None:
        """The innermost watched module that is running, and the layer that this call of it is."""
        return self._owners[-1]

    def _reads(self) -> bool:
        """Returns whether attention that is seen now is that of a wanted layer."""
        owner = self._owner()
        return owner is not None and owner[1] in self._wanted

    def _read(self, call: AttentionCall | str, result: Any) -> Any:
        """Takes the attention of a wanted layer. Returns the result with which the model goes on."""
        owner = self._owner()
        if owner is None:
            return result
        module, layer = owner
        if isinstance(call, str):
            self._unreadable[layer] = call
            return result
        if call.pooled or call.weighs:
            return result
        call = call.unfolded(call.attention.shape[0] // self._batch if self._batch else heads_of(module) or 1)
        self.routes[layer] = call.route
        return self._take(layer, call, result)

    def _take(self, layer: str, call: AttentionCall, result: Any) -> Any:
        attention = call.attention
        if self._edit is not None and isinstance(attention, Factors):
            attention = attention.maps()
        with DisableTorchFunction():
            if self._taker is not None:
                self._taker.take(layer, Shown(attention.detach(), call.sink, call.value_norms))
            if self._output is not None:
                return self._output.take_output(layer, call.make_values(), call.output, result)
        if self._edit is None or isinstance(attention, Factors):
            return result
        return call.with_maps(self._edit(layer, attention))

    def _doubt(self, doubt: Doubt) -> None:
        """Takes a product that may be attention, of the layer that runs now. It is noted at the end, if nothing settles it."""
        owner = self._owner()
        notes, name, reason = self._note(DOUBT) if owner is None or not self._reads() else (self._unreadable, owner[1], DOUBT)
        self._doubts.append((doubt, partial(notes.setdefault, name, reason)))

    def _pass_by(self, call: AttentionCall | str) -> None:
        """Notes attention that is not read: of another layer, of a module that is known, or of a stranger."""
        notes, name, reason = self._note("" if isinstance(call, AttentionCall) else call)
        if notes is not self.strangers or isinstance(call, str) or not call.weighs:
            notes[name] = reason

    def _note(self, reason: str) -> tuple[dict[str, Any], str, str | None]:
        """The attribute that notes attention that is not read, the name of the layer or module there, and what is noted."""
        if (owner := self._owner()) is not None:
            return self.unread, owner[1], None
        module, name, _ = self._running[-1] if self._running else (self._model, "", None)
        known = next((each for _, each, _ in reversed(self._running) if each in self._beside), None)
        if known is not None:
            return self.unread, known, None
        kind = type(module).__name__
        return self.strangers, name or kind, f"{kind}: {reason}" if reason else kind
