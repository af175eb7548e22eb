"""All tests. A package, so that no other package called ``tests`` comes before it."""
