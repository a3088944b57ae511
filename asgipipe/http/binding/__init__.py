"""Custom endpoints: plain typed callables, validated, documented and answered alike on every framework."""
