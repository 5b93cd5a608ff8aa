"""Models in the form the native engine reads."""

from equipot.model.export.native import DEFAULT_ACCURACY, native_bytes

__all__ = ["DEFAULT_ACCURACY", "native_bytes"]
