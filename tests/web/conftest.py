from tests.consent.conftest import house  # noqa: F401 - the processes that serve over HTTP
