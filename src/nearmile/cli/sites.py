"""The sites of a configuration, by what people call them."""

from nearmile.base.errors import WrongInput
from nearmile.config.layout import Config, NamedSite


def of_host(config: Config, host: str) -> NamedSite:
    """The site with that hostname; WrongInput where there is none."""
    for name in (host, f"*.{host.partition('.')[2]}"):
        for site in config.sites:
            if name in site.document.hostnames:
                return site
    known = ", ".join(host for site in config.sites for host in site.document.hostnames)
    raise WrongInput(f"no site here is called {host!r}; there are: {known}")


def of_name(config: Config, name: str) -> NamedSite:
    """The site of that name; WrongInput where there is none."""
    for site in config.sites:
        if name == site.name:
            return site
    raise WrongInput(f"no site {name!r}; there are: {', '.join(site.name for site in config.sites)}")
