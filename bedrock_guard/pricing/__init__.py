"""
Usage to cost: a packaged price list, and pure integer arithmetic over it.

    price_list   the unit prices of (model, geography, region, tier, latency, date)
    calculate    usage x unit prices, summed exactly, rounded up once
    generate     facts about AWS's prices -> `data/`, by hand, never at run time
"""
