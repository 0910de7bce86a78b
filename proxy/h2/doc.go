// Package h2 relays HTTP/2 (RFC 9113): many client connections share a few
// member connections, stream by stream.
//
// One goroutine reads each connection. It handles every frame in its buffer and
// then flushes each connection that it wrote to, once; a flush never waits, so
// no reader stands still because another peer does not read (socket.Conn).
// Locks: a stream's mu may be held while a connection's mu is taken; two
// connections' mu are never held together.
//
// # What was sent, what failed, what happens (law 1)
//
// "Sent" means that a byte of the request's HEADERS was in a buffer given to
// write(). "Kept" means that the whole request so far, at most 64 KiB, is still
// in memory; it is until the member's first HEADERS arrive.
//
//	the member …                     | request        | what the client sees
//	---------------------------------+----------------+------------------------------------------
//	cannot be dialled, sends no      | any            | next member; none left: UNAVAILABLE with
//	SETTINGS, or has no slot free    |                | the text that makes clientv3 retry
//	is lost, nothing was sent        | any, kept      | next member
//	is lost, nothing was sent        | not kept       | UNAVAILABLE with that same text
//	answers REFUSED_STREAM           | any, kept      | next member
//	                                 | not kept       | UNAVAILABLE with that same text
//	ends its connection with a final | any, kept      | next member; none left: by another
//	GOAWAY below the stream          |                | connection to this one, once
//	                                 | not kept       | UNAVAILABLE with that same text
//	sends our own refusal, so that   | any, kept      | next member; none left:
//	it is a loop                     |                | FAILED_PRECONDITION
//	                                 | not kept       | UNAVAILABLE with that same text, or
//	                                 |                | FAILED_PRECONDITION if none is left
//	is lost, sent, no answer         | read, kept     | next member
//	is lost, sent, no answer         | everything else| trailers-only UNAVAILABLE, outcome unknown
//	is lost, answer had begun        | any            | trailers with UNAVAILABLE
//	answers RST_STREAM               | any            | the same RST_STREAM
//	answers all before it has all    | any            | the answer, and RST_STREAM of NO_ERROR
//	first GOAWAY of grpc-go (2^31-1) | any            | nothing: the stream goes on there
//
// The client never gets REFUSED_STREAM, CANCEL, or a GOAWAY below a stream that
// was sent: grpc-go would replay it, clientv3's watch would stop.
package h2
