"""Every bound of an edge server that is not a setting, with its reason or its precedent."""

# --- clients ---
# Of an edge's connections, the share that one client (an IPv4 address, or an IPv6 block of 64 bits) may hold,
# unless it is a trusted proxy or a server of the network: 1,000 by default, more than an office behind one
# address has. And no fewer than a few browsers open.
CLIENT_CONNECTIONS_SHARE, CLIENT_CONNECTIONS_MIN = 0.1, 64
# Of all connections that it may have, the share with which an edge says that it is full and leaves the answers,
# and that with which it returns: the clients who know its address still find room.
FULL_SHARE, ROOMY_SHARE = 0.9, 0.7
# Pending connections the kernel keeps; Linux caps it at net.core.somaxconn (4096 since 5.4).
BACKLOG = 4096
# Connections served together, before any of them is answered: 1 ms of work, if each asks for a hit.
ROUND_CONNECTIONS_MAX = 64
# What a connection may keep for that: of more, the reading pays for itself, and 64 of these are 1 MB.
ROUND_BYTES_MAX = 16 << 10
# Answers kept for the end of a round: more would not stay in the processor's cache until then.
ROUND_KEPT_BYTES = 128 << 10
# The coarse sweep that ends what took too long; every time below is kept to within this.
SWEEP_S = 1.0
# From the first byte of a head to its last. nginx: 60 s, Apache's mod_reqtimeout: 20-40 s.
HEAD_TIMEOUT_S = 20.0
# nginx's keepalive_timeout is 75 s; browsers drop idle connections after 60-300 s.
IDLE_TIMEOUT_S = 60.0
# A client that takes nothing of a waiting response, or sends nothing of a body, for so long. nginx: 60 s.
STALLED_TIMEOUT_S = 30.0
# And no slower than so many bytes of a body, sent or taken, in a second on average of so many seconds in which the
# client is waited for: a byte now and then is no progress. Apache's mod_reqtimeout: 500 bytes/s after 20 s.
PACE_BYTES_PER_S_MIN = 500
PACE_GRACE_S = 60.0
# Bytes of requests that wait behind one being answered, then reading pauses. Browsers do not pipeline.
PIPELINE_BYTES_MAX = 64 << 10
# Of what the kernel sends by itself, handed to it before others have a turn (nginx's sendfile_max_chunk).
PAGES_TURN_BYTES = 2 << 20
# The largest request body passed on: what the largest CDN plans allow by default (Cloudflare: 100 MB to 500 MB).
REQUEST_BODY_BYTES_MAX = 512 << 20
# Bytes of a request body that wait for the origin to take them.
REQUEST_BUFFER_BYTES_MAX = 256 << 10
# After a last response, a client that is still sending is heard out for so long, so that a reset does not reach it
# before the response does, in all. nginx's lingering_timeout is 5 s, but from byte to byte.
LINGER_S = 2.0
# At a stop, responses in flight get so long.
DRAIN_S = 5.0

# --- clients over TLS and HTTP/2 ---
# From the first byte to the end of the handshake. nginx: 60 s; a phone on a bad line needs some seconds.
HANDSHAKE_TIMEOUT_S = 10.0
# Plaintext encrypted at a time, so that of a long response no more is held twice: eight records.
TLS_WRITE_BYTES = 128 << 10
# Received from a client without a byte of plaintext coming of it: twice a record, which is what may come in part.
TLS_BARREN_BYTES_MAX = 34 << 10
# Changes of keys asked for in the life of a connection; one is due every 400 GB (RFC 8446 section 5.5).
TLS_REPLIES_MAX = 100
# Bytes handed to the transport at a time; a few TLS records, and no copy larger than that.
H2_WRITE_BYTES = 128 << 10
# A hit no larger than this is recorded as sent when it is handed over: every stream's first window takes it, so
# that only the end of the whole connection could cut it short.
H2_AT_ONCE_BYTES = 16 << 10
# Requests of one connection, in one sweep, that the client gave up or that broke a rule. Browsers reset a few
# dozen when a page is left; CVE-2023-44487 attacked with thousands a second.
H2_SPOILED_MAX = 200

# --- clients over QUIC ---
# Datagrams read before their connections are served: 80 KB; if each asks for a hit of 1 KB, 2 ms of work.
UDP_ROUND = 64
# Datagrams handed to the kernel at a time: 64 is its limit, 64 KB too.
UDP_RUN = 48
# Of the socket: a hundred clients' windows; Linux grants 208 KB unless its administrator allows more.
UDP_BUFFER_BYTES = 4 << 20
# How long clients may come by HTTP/3 at once after they heard of it: RFC 7838's own default, a day.
ALT_SVC_S = 86_400
# Handshakes under way, 2 ms of work each; beyond them, who comes must show by a Retry that its address is its own.
QUIC_SHAKING_MAX = 32

# --- origins ---
# Requests under way at one origin, for one site. Varnish: unlimited; nginx: unlimited; HAProxy advises hundreds.
REQUESTS_PER_ORIGIN_MAX = 256
# As many more may wait for one of them to end, for so long; the next is sent away, as a longer queue outlives it.
QUEUE_TIMEOUT_S = 5.0
# When to come again, for those: what is stalled now mostly is so in a second, and not in a minute.
BUSY_RETRY_S = 2
# What fails again and again is told to the operator once in so long.
COMPLAINT_S = 30.0
# Origins with a pool at a time; the idle ones beyond that are forgotten.
POOLS_MAX = 1024
CONNECT_TIMEOUT_S = 3.5  # Varnish's connect_timeout
# The owner of an object is a neighbour: milliseconds away, or dead and soon off the map.
OWNER_CONNECT_TIMEOUT_S = 0.5
# A parent is in another region: half the earth's circumference there and back takes 0.2 s of light in fibre.
PARENT_CONNECT_TIMEOUT_S = 1.0
# Who waits for a server that waits for an origin is to hear of that one's silence, not to add to it.
PATIENCE_S = 2.0
FIRST_BYTE_TIMEOUT_S = 30.0  # between Varnish's 60 s, nginx's 60 s, and Cloudflare's complaint of origins (15 s)
BETWEEN_BYTES_TIMEOUT_S = 30.0  # Varnish 60 s, nginx 60 s
# WebSocket connections of one site, at one edge server; each takes two descriptors and 50 KB or so.
WEBSOCKETS_PER_SITE_MAX = 1024
WEBSOCKET_IDLE_S = 60.0  # nginx: 60 s, Cloudflare: 100 s; clients that want more send pings
# Servers close idle connections after 5 s (Node, Apache) to 75 s (nginx); a retry covers those that were quicker.
LINK_IDLE_S = 20.0
# 1xx responses before the final one; RFC 9110 section 15.2 sets no number, an origin that sends more is broken.
INTERIM_MAX = 16

# --- fills ---
# Objects being fetched at a time, for all sites and for one; beyond it each request goes to the origin by itself.
FILLS_MAX = 4096
FILLS_PER_SITE_MAX = 1024
# Of the clients that an edge may have, how many may wait for one site's origins.
WAITING_SHARE = 0.5
# Of the cache's memory, the share that bodies on their way to the store may take; beyond it none is stored.
FILLING_SHARE = 0.25
# Who waited for another's fetch of more than this gets the head alone first: writing that much takes no longer.
AT_ONCE_BYTES = 16 << 10
# When a response is not being stored, how far the slowest reader may lag before the origin is paused. One client
# could thus hold up the others, but no longer than STALLED_TIMEOUT_S. One reader alone has nobody to hold up: the
# next is read when it has taken what there was, since one connection of HTTP/2 may have a hundred such responses.
LAG_BYTES_MAX = 1 << 20
# What turned out not to be storable is not waited for for so long (Varnish's hit-for-miss: 120 s).
HIT_FOR_MISS_S = 10.0
HIT_FOR_MISS_MAX = 16_384  # keys remembered so: 6 MB at worst
# An origin that sends the whole where a part was asked for, or another version twice within this time, is not
# asked for parts of that object for so long.
UNSLICEABLE_S = 600.0
# What a request that passed here has changed is not taken from other servers unconfirmed for so long: as a rule it
# is asked for again soon, and then they know.
OUTDATED_S = 3600.0

# --- coding ---
# Bodies that wait to be coded, or are; what comes then is served as it is. A second of one core.
CODING_BYTES_MAX = 32 << 20
# While there is no more of that, a client waits for the one it asked for: 20 ms.
CODING_WAIT_BYTES_MAX = 512 << 10

# --- memos ---
# Addresses with their places: about 200 bytes each.
PLACES_MAX = 32_768

# Names that wildcards in hostnames stand for: a kilobyte each.
WILDCARD_NAMES_MAX = 4096

# --- rules of sites ---
# Clients whose rate is known: 300 bytes each, 10 MB, in parts of sites. Who is forgotten may make one more burst.
RATED_CLIENTS_MAX = 32_768
