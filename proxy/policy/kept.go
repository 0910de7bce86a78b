package policy

import "sync/atomic"

// KeptLimit bounds what both relays together keep of requests for a second
// member, in bytes (law 9). Beyond it requests are streamed and not sent twice.
const KeptLimit = 64 << 20

// Kept counts the bytes that are kept now.
var Kept atomic.Int64
