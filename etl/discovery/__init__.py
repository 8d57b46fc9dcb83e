"""`etl init`: what is found in files (dialect, types, keys), and the config that loads them as it stands."""

from etl.discovery.draft import initial_config

__all__ = ["initial_config"]
