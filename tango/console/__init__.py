"""The console: pages for a browser that show a fleet live, served on loopback by one small process.

`server.py` has the routes, `session.py` who may see them, `live.py` shares what is read among all who look, `documents.py` is what pages
get of it, `reads.py` names what the console reads of the world. Pages are made in the browser, by the modules in `static/`, from JSON that
comes over one stream of events for each page; `templates/` has the frame around them.
"""
