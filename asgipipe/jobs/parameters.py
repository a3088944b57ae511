"""The parameters of a job, as they wait in the store."""

import pydantic
from pydantic import BaseModel

from asgipipe.errors import ValidationError
from asgipipe.pipelines.contract import Contract


class StoredParameters:
    """Writes the parameters of one pipeline as JSON, and reads them again as the pipeline takes them then."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        adapter = contract.parameters_adapter
        self._validate = adapter.validator.validate_json
        self._serialise = adapter.serializer.to_json

    def dump(self, parameters: dict[str, object]) -> bytes:
        """Raises ValidationError (422) for values that would not come back as they are, such as secrets."""
        lost = list(parameters)
        for by_alias in (True, False):  # as answers show them, unless what is written so is read under other names
            stored = self._serialise(self._whole(parameters), by_alias=by_alias, round_trip=True, warnings=False)
            lost = self._lost(parameters, stored)
            if not lost:
                return stored
        message = "This value does not survive being stored, which a job needs; a sync run takes it"
        errors = [{"loc": ["parameters", name], "msg": message, "type": "not_storable"} for name in lost]
        raise ValidationError("The parameters cannot be kept for a job.", errors=errors)

    def load(self, stored: bytes) -> dict[str, object]:
        """Raises pydantic.ValidationError when the pipeline does not take them any more."""
        return self._contract.arguments(self._validate(stored, strict=True, by_alias=True, by_name=True))

    def _whole(self, parameters: dict[str, object]) -> object:
        model = self._contract.parameters_type
        if not issubclass(model, BaseModel):
            return parameters
        instance = model.model_construct()
        instance.__dict__.update(parameters)
        return instance

    def _lost(self, parameters: dict[str, object], stored: bytes) -> list[str]:
        """Return the names of the parameters that would not come back."""
        try:
            restored = self.load(stored)
        except pydantic.ValidationError as error:
            refused = {one["loc"][0] for one in error.errors() if one["loc"]}
            return [name for name in parameters if name in refused] or list(parameters)
        return [name for name, value in parameters.items() if not _is_same(value, restored.get(name))]


def _is_same(value: object, restored: object) -> bool:
    try:
        return bool(value == restored) or type(value).__eq__ is object.__eq__
    except Exception:  # boundary: comparing is anybody's code, and that of arrays gives no truth
        return True
