"""The HTML report: `page.write_report` makes it of a run directory, with a module for each section.

Scripts and styles are in `results/assets/`.
"""
