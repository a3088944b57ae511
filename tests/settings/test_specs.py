import pytest
from pydantic import ValidationError

from asgipipe.settings import AppExtensionSpec, EndpointMethod, EndpointSpec, MiddlewareSpec


def test_endpoint_defaults() -> None:
    """An endpoint is a protected POST of a callable unless it says otherwise."""
    spec = EndpointSpec(path="/x", handler=print)
    assert (spec.method, spec.native, spec.auth_required) == (EndpointMethod.POST, False, True)
    assert spec.init_kwargs == spec.extra_kwargs == {}


@pytest.mark.parametrize("method", ["get", "GET", EndpointMethod.GET])
def test_methods(method: object) -> None:
    """Methods are given by name in any case."""
    assert EndpointSpec.model_validate({"path": "/x", "handler": "a:b", "method": method}).method is EndpointMethod.GET


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "", "GETS", 1, None, ["GET"]])
def test_wrong_methods(method: object) -> None:
    """HEAD and OPTIONS follow from the others, and nothing else is a method."""
    with pytest.raises(ValidationError):
        EndpointSpec.model_validate({"path": "/x", "handler": "a:b", "method": method})


def test_only_native_objects_need_not_be_callable() -> None:
    """An object that is not callable is a handler or a middleware with `native` only."""
    router = object()
    assert EndpointSpec(path="/x", handler=router, native=True).handler is router
    assert MiddlewareSpec(middleware=router, native=True).middleware is router
    with pytest.raises(ValidationError, match="object is not callable"):
        EndpointSpec(path="/x", handler=router)
    with pytest.raises(ValidationError, match="object is not callable"):
        MiddlewareSpec(middleware=router)


def test_extensions() -> None:
    """An extension is a callable, an import string, or has `install`."""

    class Extension:
        def install(self, app_runner: object) -> None: ...

    for extension in (print, "a:b", Extension, Extension()):
        assert AppExtensionSpec(extension=extension).extension is extension
    with pytest.raises(ValidationError, match="install"):
        AppExtensionSpec(extension=object())


@pytest.mark.parametrize("order", [True, "x", 1.5, 10**9, None])
def test_wrong_orders(order: object) -> None:
    """An order is a whole number within bounds."""
    with pytest.raises(ValidationError):
        MiddlewareSpec.model_validate({"middleware": "a:b", "order": order})
