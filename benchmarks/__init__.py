"""One module a figure: what the docs claim about speed, measured, and checked against a model before it is reported."""
