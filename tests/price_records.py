"""
Records in the shape of AWS's price list, made by hand, for tests of what reads them.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from zlib import crc32

NATIVE, MARKETPLACE = "AmazonBedrock", "AmazonBedrockFoundationModels"


def record(usage_type: str, usd: str | None, unit: str = "1K tokens", **more: Any) -> dict[str, Any]:
    """
    One product as GetProducts gives it; what is not an attribute of AWS's is spelt without a capital.
    """
    published = more.pop("published", "2026-09-01")
    effective = more.pop("effective", published)
    sku = more.pop("sku", f"SKU{crc32(f'{usage_type} {usd}'.encode()):010d}")
    service = more.pop("servicecode", NATIVE)
    per_unit = more.pop("per_unit", {"USD": usd})
    description = more.pop("description", "")
    prices = more.pop("prices", [per_unit])
    dimensions = {
        f"{sku}.TERM.{number}": {
            "unit": unit,
            "description": description,
            "rateCode": f"{sku}.TERM.{number}",
            "pricePerUnit": each,
        }
        for number, each in enumerate(prices)
    }
    attributes = {"servicecode": service, "usagetype": usage_type, "regionCode": "us-east-1", **more}
    return {
        "product": {"productFamily": "Amazon Bedrock", "sku": sku, "attributes": attributes},
        "serviceCode": service,
        "terms": {
            "OnDemand": {
                f"{sku}.TERM": {
                    "sku": sku,
                    "effectiveDate": f"{effective}T00:00:00Z",
                    "priceDimensions": dimensions,
                }
            }
        },
        "version": "20260901183649",
        "publicationDate": f"{published}T18:36:49Z",
    }


def marketplace(name: str, component: str, usd: str, unit: str = "Units", **more: Any) -> dict[str, Any]:
    return record(
        f"USE1-MP:USE1_{component}-Units",
        usd,
        unit,
        servicecode=MARKETPLACE,
        servicename=f"{name} (Amazon Bedrock Edition)",
        operation="Usage",
        **more,
    )


def saved(path: Path, *records: dict[str, Any]) -> Path:
    """
    As the output of `get-products` is saved: records as strings.
    """
    path.write_text(json.dumps({"PriceList": [json.dumps(each) for each in records]}))
    return path


def bulk(path: Path, *records: dict[str, Any]) -> Path:
    """
    As the bulk `index.json` has the same records; gzipped where the name says so.
    """
    text = json.dumps(
        {
            "formatVersion": "v1.0",
            "offerCode": records[0]["serviceCode"],
            "version": records[0]["version"],
            "publicationDate": records[0]["publicationDate"],
            "products": {each["product"]["sku"]: each["product"] for each in records},
            "terms": {"OnDemand": {each["product"]["sku"]: each["terms"]["OnDemand"] for each in records}},
        }
    ).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path
