"""The loop's numbers in other systems, each with a package of its own:

:mod:`asyncfast.contrib.prometheus` and :mod:`asyncfast.contrib.opentelemetry`.
"""
