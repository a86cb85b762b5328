"""
Where a call is priced: the places of the list that it could be billed at.

A place is a geography (`"global"`, `"us"`, `"in-region"`), a region with prices of
its own, or a geography called from one region (`"eu@eu-west-1"`): AWS prices a
profile by the region it is called in. Where the list leaves a choice, all that could apply are returned,
and the dearest counts: AWS prices geographies and the regions in them together,
and tables that give a bare id the price of its global profile are wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

CALLED_FROM: Final = "@"

IN_REGION: Final = "in-region"
GLOBAL: Final = "global"
US_GOV: Final = "us-gov"

# Longest first: the first that fits counts.
_GEOGRAPHIES: Final[dict[str, tuple[str, ...]]] = {
    "ap-northeast-": ("apac", "jp"),
    "ap-southeast-": ("apac", "au"),
    "ap-south-": ("apac", "in"),
    "ap-": ("apac",),
    "ca-": ("ca", "us"),
    "eu-": ("eu",),
    "us-gov-": (US_GOV,),
    "us-": ("us",),
}
_REGION: Final = re.compile(r"[a-z]+(?:-[a-z]+)+-[0-9]+")
# The list's price for "any region" is that of these.
_HOME: Final = re.compile(r"us-(?:east|west)-[0-9]")
# These partitions bill in euros and yuan: a price in USD would be wrong by the exchange rate.
_NOT_USD: Final = ("cn-", "eusc-")


def is_region(place: str) -> bool:
    """
    Whether a place is a region, not a geography.
    """
    return _REGION.fullmatch(place) is not None


def split_place(place: str) -> tuple[str, str | None]:
    """
    The geography and region of a call that is priced at *place*, as `find_places` takes them.
    """
    geography, _, region = place.partition(CALLED_FROM)
    if region:
        return geography, region
    return (IN_REGION, place) if is_region(place) else (place, None)


def places_of_region(region: str) -> tuple[str, ...]:
    """
    Where a regional price of *region* holds: inside it, and for geo profiles called from it.
    """
    return (region, *(f"{geography}{CALLED_FROM}{region}" for geography in _geographies_of(region)))


def is_priced_in_usd(region: str | None) -> bool:
    """
    Whether AWS bills in US dollars there.
    """
    return not (region or "").startswith(_NOT_USD)


def is_us_gov(place: str | None) -> bool:
    """
    Whether a geography or region is of the AWS GovCloud (US) partition.
    """
    return (place or "").rpartition(CALLED_FROM)[2].startswith(US_GOV)


def find_places(listed: Collection[str], geography: str, region: str | None) -> tuple[str, ...]:
    """
    The places among *listed* that a call could be billed at; all of them where nothing tells.
    """
    if geography == IN_REGION:
        return _in_region(listed, region) or tuple(sorted(listed))
    exact = f"{geography}{CALLED_FROM}{region}"
    if exact in listed:
        return (exact,)
    # From a region that nothing tells, it is the dearest that the geography costs anywhere.
    anywhere = [place for place in listed if not region and place.startswith(f"{geography}{CALLED_FROM}")]
    if geography in listed or anywhere:
        return tuple(sorted({*anywhere, *({geography} & set(listed))}))
    geographies = {place for place in listed if not is_region(place)}
    return tuple(sorted({*geographies, *_in_region(listed, region)}))


def _in_region(all_listed: Collection[str], region: str | None) -> tuple[str, ...]:
    listed = [place for place in all_listed if CALLED_FROM not in place]
    if not region:
        return tuple(sorted(place for place in listed if place != GLOBAL))
    if region in listed:
        return (region,)
    near = [place for place in _geographies_of(region) if place in listed]
    here = [*near, IN_REGION] if IN_REGION in listed else near
    if here and _HOME.fullmatch(region):
        return tuple(here)
    # A region without a row is not cheaper than the dearest that has one, as far as anyone can tell.
    others = {
        place
        for place in listed
        if is_us_gov(place) == is_us_gov(region) and (is_region(place) or not near) and place != GLOBAL
    }
    return tuple(sorted({*here, *others}))


def _geographies_of(region: str) -> tuple[str, ...]:
    return next((found for prefix, found in _GEOGRAPHIES.items() if region.startswith(prefix)), ())
