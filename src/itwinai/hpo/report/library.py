"""The drawing library that is put into the page: Vega-Lite, from the package ``vl-convert-python``.

Why this one: a page that forbids itself all that is not its own must draw without making functions
of strings. Vega can, with its interpreter of expressions. Its bundle, interpreter and all, has
0.9 MB and comes from the package without any network; Plotly has 4.7 MB, and its usual build makes
functions of strings. Pictures that are drawn beforehand, as by matplotlib, are no smaller for a
thousand points, and have no tooltips. The package itself is large (88 MB), which is why it is
optional, and takes about two seconds to make the bundle.
"""

from __future__ import annotations

from itwinai.errors import MissingPackageError


def bundled(program: str) -> str:
    """Return a module of JavaScript: the library, and a program that uses ``vegaEmbed``.

    Raises:
        MissingPackageError: If the package is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise MissingPackageError(
            "a report needs more packages: pip install 'itwinai[report]'"
        ) from error
    bundle: str = vl_convert.javascript_bundle(program)
    # What would end the script's element can only stand in a string, where this is the same.
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
