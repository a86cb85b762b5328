"""
Usage to cost: a price list, and pure integer arithmetic over it.

    price_list   the unit prices of (model, geography, region, tier, latency, date)
    own_prices   an account's own prices, over those of the list
    calculate    usage x unit prices, summed exactly, rounded up once
    overlay      prices synced with AWS's list; `layers` lays them over the packaged ones
    sync         AWS's price list -> the overlay, by hand, never at run time
    generate     facts about AWS's prices -> `data/`, by hand, never at run time
"""
