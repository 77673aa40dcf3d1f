"""What pyproject.toml cannot say: a wheel that carries libxcopy suits every
Python 3, but one platform only."""

from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel

CARRIES = (Path(__file__).parent / "xcopy" / "_lib").exists()


class Carrier(Distribution):
    def has_ext_modules(self):
        return CARRIES


class Wheel(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(distclass=Carrier, cmdclass={"bdist_wheel": Wheel})
