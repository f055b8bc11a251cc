"""X-CSQA: everyday knowledge, as a choice of five."""
