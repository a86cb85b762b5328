"""
A ledger in a browser: what the commands show, read by the same readers, and nothing that changes it.

    command   the command: what is opened, where it listens, who may ask
    serving   the server, from its socket to its end
    app       addresses -> views -> HTML or JSON
    gate      hosts, sites, methods and the token, before anything is answered
    desk      what all views need
    views     overview, spending, caching, journal, notices: one or two pages each
    live      calls as they end, for any number of readers by one follower
    sums      reports over long journals, a little with each request
    rendering values to text that cannot be anything else
"""
