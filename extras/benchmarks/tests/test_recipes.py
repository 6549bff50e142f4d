"""The table of recipes in the README."""

from extras.benchmarks import recipes, results


def test_the_table_of_recipes_is_that_of_the_results() -> None:
    """`python extras/benchmarks/recipes.py` writes it."""
    written = recipes.TABLE.findall(recipes.README.read_text("utf-8"))
    assert written == [recipes.table(results.read())]
