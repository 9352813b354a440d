"""Which packages a wheel holds; everything else about the project stands in pyproject.toml.

The folders of strategies, suites, templates and recipes stand at the top of the checkout. A wheel
carries them inside the package ``adaptbench``, so that it installs no package of so general a name.
"""

from setuptools import find_packages, setup

FOLDERS = ("strategies", "suites", "templates", "recipes")

setup(
    packages=[
        *find_packages(include=["adaptbench", "adaptbench.*", "harness", "harness.*"]),
        *(f"adaptbench.{name}" for name in FOLDERS),
    ],
    package_dir={f"adaptbench.{name}": name for name in FOLDERS},
)
