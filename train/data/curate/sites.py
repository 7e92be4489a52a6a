"""The sites of Stack Exchange: which are STEM (the paper's two groups), which cannot be used, and where they are on the web."""

from typing import Literal

Group = Literal["stem", "other"]
GROUPS: tuple[Group, ...] = ("stem", "other")

_STEM_NAMES = """
ai android apple arduino askubuntu astronomy bioacoustics bioinformatics biology bitcoin blender cardano
chemistry civicrm codegolf codereview cogsci computergraphics conlang crypto cs cs50 cseducators cstheory
datascience dba devops drones drupal dsp earthscience ebooks economics edaboard electronics elementaryos emacs
engineering eosio ethereum expressionengine ham hsm iot joomla langdev linguistics magento materials math
matheducators mathematica mathoverflow mattermodeling medicalsciences monero networkengineering neuroscience
open-data opensource or patents physics pm proofassistants psychology quant quantumcomputing raspberrypi
retrocomputing reverseengineering robotics salesforce scicomp security serverfault sharepoint sitecore
softwareengineering softwarerecs solana space sqa stackapps stackoverflow stats stellar substrate superuser
sustainability tex tezos tor tridion unix ux vi webapps webmasters windowsphone wordpress
"""
_STEM = frozenset(_STEM_NAMES.split())
_OTHER_LANGUAGES = frozenset(
    ["es", "ja", "pt", "ru", "es.stackoverflow", "ja.stackoverflow", "pt.stackoverflow", "ru.stackoverflow", "rus"]
)
_OWN_DOMAIN = {
    "stackoverflow": "stackoverflow.com",
    "serverfault": "serverfault.com",
    "superuser": "superuser.com",
    "askubuntu": "askubuntu.com",
    "stackapps": "stackapps.com",
    "mathoverflow": "mathoverflow.net",
}


def short_name(name: str) -> str:
    """A site's name without its domain: `beer` of `beer.stackexchange.com`."""
    return name.lower().removesuffix(".net").removesuffix(".com").removesuffix(".stackexchange")


def domain(site: str) -> str:
    """Where a site is on the web."""
    return _OWN_DOMAIN.get(site) or (f"{site}.com" if site.endswith(".stackoverflow") else f"{site}.stackexchange.com")


def group(site: str) -> Group:
    """The group of a site; what is not known to be STEM is other."""
    return "stem" if site in _STEM else "other"


def unusable(site: str) -> str | None:
    """Why nothing of a site can be used, or None."""
    if "meta" in site.split("."):
        return "a meta site is about the site itself"
    if site in _OTHER_LANGUAGES:
        return "is not in English, which the rules on wording read"
    return None
