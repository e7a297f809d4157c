"""The commands behind every number: results, defaults, training of what is bundled; `studies.speed` has the bars."""
