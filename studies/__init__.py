"""The commands that measure every number on the site: results, defaults, training of the bundled models, speed."""
