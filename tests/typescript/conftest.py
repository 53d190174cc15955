from tests.consent.conftest import house

__all__ = ["house"]
