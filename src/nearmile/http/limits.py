"""Every bound of the wire protocol in one place, each with its reason or its precedent."""

# The request line and fields of a request together. nginx: 4 buffers of 8 KB; Apache: 8 KB a line; Node: 16 KB.
HEAD_BYTES_MAX = 32 << 10
# An origin may set many cookies and a long policy; nginx's proxy_buffer_size is 4-8 KB, Varnish 32 KB.
RESPONSE_HEAD_BYTES_MAX = 64 << 10
# Apache's LimitRequestFields is 100.
FIELDS_MAX = 100
# RFC 9110 section 4.1 asks for at least 8,000 octets of URI.
TARGET_BYTES_MAX = 8_192
# RFC 9110 section 9.1 registers no method longer than 17 octets (UPDATEREDIRECTREF); room for private ones.
METHOD_BYTES_MAX = 32
# A chunk-size line: 16 hex digits and an extension nobody uses. More than this is an attack on memory.
CHUNK_LINE_BYTES_MAX = 256
# Extensions that outweigh the body by more than this are an attack on the processor (as in Go, CVE-2023-39326);
# so much of each chunk's line is free.
CHUNK_WASTE_BYTES_MAX = 16 << 10
CHUNK_FREE_BYTES = 16
# A chunk size above 2^53 is no honest body, and unsafe in any peer that counts in doubles.
CHUNK_SIZE_DIGITS_MAX = 13
# 19 digits could overflow a 64-bit integer in a peer; 18 digits are 10^18 bytes.
LENGTH_DIGITS_MAX = 18
# Trailer fields say how a body came out; they may be no larger than a small head, and no more than FIELDS_MAX.
TRAILER_BYTES_MAX = 8 << 10

# Parsed header blocks are remembered: 2,048 of at most 4 KB, and about as much again once parsed: 16 MB.
# A keep-alive client repeats its block with each request, so one block for each active connection suffices.
MEMO_ENTRIES_MAX = 2_048
MEMO_BLOCK_BYTES_MAX = 4 << 10
# And each connection has what came last; browsers say less than a kilobyte.
REPEATED_BYTES_MAX = 2 << 10

# --- HTTP/2 ---
# RFC 9113 section 6.5.2 recommends no fewer than 100; nginx, Apache and Caddy have 100 to 250.
H2_STREAMS_MAX = 128
# Of request bodies on one connection that no origin has taken yet: what a hostile client can make us keep.
H2_CONNECTION_WINDOW_BYTES = 1 << 20
H2_STREAM_WINDOW_BYTES = 256 << 10
# CONTINUATION frames behind one HEADERS (CVE-2024-27316): a head of 32 KB needs two.
H2_CONTINUATIONS_MAX = 8
# Answers to PING and SETTINGS that wait for a client to read them (CVE-2019-9512, CVE-2019-9515).
H2_HELD_ACKS_MAX = 100
# Blocks of a connection's requests that are known by their bytes. With what they say, hostile ones take 50 times
# as much; honest ones share what they say with the table, and take 20 to 100 bytes.
H2_KNOWN_BYTES_MAX = 8 << 10
# Answers put together that wait to be written; with more, a stream keeps its body by reference, and stays open.
H2_HELD_BYTES_MAX = 128 << 10
# Frames that wait to be written, beside bodies: twice what the largest heads take of all streams that a client may
# have open. More comes of streams that are given up while nothing is read, whose heads stay behind.
H2_UNREAD_BYTES_MAX = 16 << 20
# Streams that we reset, and gaps in the client's numbers: a client has no more on their way than it may have open.
H2_REMEMBERED_MAX = 256
# Frames, since something was moved, that ask for nothing and bring nothing: empty DATA (CVE-2019-9518), PRIORITY,
# WINDOW_UPDATE. Of a client that tells of every frame of 100 responses of 256 KB at once there are 3,200.
H2_BARREN_MAX = 8_192
# Of a request's fields that are remembered, in as many entries: most have 1 KB, cookies make some longer. 32 MB.
H2_FIELDS_BYTES_MAX = 8 << 10
# Translated heads of stored responses: about 1 KB each with their key, 4 MB in all; none is longer than
# MEMO_BLOCK_BYTES_MAX, or an origin could make that 500.
H2_HEADS_MAX = 4_096
# --- HTTP/2 as a client, of origins ---
# Requests on one connection, as nghttp2 and Go assume of servers that say nothing; with more, another is opened.
H2_LINK_STREAMS_MAX = 100
# What a server may send of one response before it is read, and of all: no stream that stalls holds up the others.
H2_RESPONSE_WINDOW_BYTES = 256 << 10
H2_LINK_WINDOW_BYTES = H2_LINK_STREAMS_MAX * H2_RESPONSE_WINDOW_BYTES

# --- QUIC and HTTP/3 ---
# nginx: 75 s, Chromium: 30 s; the less of both sides counts (RFC 9000 section 10.1).
QUIC_IDLE_S = 60.0
# Of UDP payload: what servers of Google and Cloudflare send without asking the path; it fits into an Ethernet's
# 1,500 bytes with room for a tunnel.
QUIC_DATAGRAM_BYTES = 1_350
# Of request bodies that no origin has taken yet: as for HTTP/2.
QUIC_CONNECTION_WINDOW_BYTES = 1 << 20
QUIC_STREAM_WINDOW_BYTES = 256 << 10
# From a Retry to its answer: a round trip; a slow one takes seconds.
QUIC_TOKEN_S = 10.0
# A kilobyte each.
QUIC_TICKETS_MAX = 4096
# Of data in a datagram: QUIC's library leaves 64 bytes to all else.
H3_PART_BYTES = QUIC_DATAGRAM_BYTES - 64
# Of one response handed to QUIC at a time. For the 100 streams that a client may have it is not much more than the
# kernel keeps for one connection of TCP (tcp_wmem's 4 MB).
H3_AHEAD_BYTES = 48 * H3_PART_BYTES
# Frames of a control stream say little; what is longer can only be reserved or hostile.
H3_CONTROL_BYTES_MAX = 4 << 10
# Of one connection at a time, before others get their turn.
H3_BURST_BYTES = 256 << 10
# Field sections that were understood: of at most MEMO_BLOCK_BYTES_MAX, mostly 300 bytes.
H3_SECTIONS_MAX = 4_096
# What bytes mean behind each of 256 beginnings of a code of Huffman's, as they come: 150 bytes each, 2 MB.
HUFFMAN_STEPS_MAX = 16_384
