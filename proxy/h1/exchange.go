package h1

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"etcdops/proxy/director"
	"etcdops/proxy/policy"
	"etcdops/proxy/stats"
)

// exchange is one request and its answer.
type exchange struct {
	cl   *client
	r    *Relay
	head requestHead
	body body
	try  attempt // the present one

	path     string // the target without the query
	expect   bool   // the client may wait to be asked for the body
	upgrade  bool   // asks for a WebSocket
	whole    bool   // nothing of the request is left to be read from the client
	streamed bool   // what is left of the body can't be skipped over
	kept     []byte
	answered bool // the client was given a part of an answer

	fault string // of a head that is none; it has nothing of the client's in it

	api  stats.API
	call policy.Call
}

// exchanges are used again: one is borrowed for each request.
var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func (cl *client) newExchange() *exchange {
	x := exchanges.Get().(*exchange)
	x.cl, x.r, x.api = cl, cl.r, stats.Other
	x.head.reset()
	return x
}

// done gives x back. Nothing may point to it any more.
func (x *exchange) done() {
	x.head.reset()
	x.try.head.fields.reset()
	x.body.trailer.reset()
	*x = exchange{head: x.head, body: body{trailer: x.body.trailer}, try: attempt{head: x.try.head}}
	exchanges.Put(x)
}

// begin looks at what the head says.
func (x *exchange) begin() {
	h := &x.head
	x.path, _, _ = strings.Cut(h.target, "?")
	x.api, x.call = apiOf(x.path)
	x.expect = h.minor > 0 && h.fields.has(expect) // RFC 9110 section 10.1.1
	x.whole = h.bodyless()
	x.upgrade = h.wantsWebSocket()
	x.body.open(&x.cl.in, max(h.length, 0), h.chunked)
}

// apiOf says what a path is counted as.
func apiOf(path string) (stats.API, policy.Call) {
	if call := policy.CallAt(path); call != 0 {
		return stats.JSON, call
	}
	switch {
	case strings.HasPrefix(path, "/v2/"):
		return stats.V2, 0
	case strings.HasPrefix(path, "/v3"):
		return stats.JSON, 0
	}
	return stats.Other, 0
}

// run answers the request: by policy, by ourselves, or by a member.
func (x *exchange) run(ctx context.Context) after {
	r, method := x.r, x.head.method
	if x.head.fields.has(via) && r.Instance.Seen(x.head.fields.joined(via, "")) {
		return x.refuseLoop("this request has been here before")
	}
	if r.Readonly {
		refusal, judge := policy.ReadonlyHTTP(method, x.path, x.head.fields.joined(override, ""), x.head.fields.joined(upgradeField, ""))
		if refusal != "" {
			return x.refuse(stats.Readonly, http.StatusNotImplemented, refusal)
		}
		if judge != "" {
			defer x.dropBody()
			if next, passes := x.judge(judge); !passes {
				return next
			}
		}
	}
	if serve := r.local(x.path); serve != nil {
		return x.local(ctx, serve)
	}
	if r.CORS != nil && method == http.MethodOptions {
		return x.reply(http.StatusOK, http.Header{}, nil)
	}
	if r.Refuse != nil {
		if err := r.Refuse(); err != nil {
			return x.refuse(whyNot(err), http.StatusServiceUnavailable, err.Error())
		}
	}
	return x.forward(ctx)
}

// longCalls end the paths of the JSON gateway that wait for something to happen
// (etcd api/v3, rpc.pb.gw.go).
var longCalls = []string{"/watch", "/lock/lock", "/election/campaign", "/election/observe"}

// waits says whether the request waits for something to happen. A v2 long poll
// says wait=true (etcd 3.5, v2http).
func (x *exchange) waits() bool {
	if strings.HasPrefix(x.path, "/v3") {
		return slices.ContainsFunc(longCalls, func(end string) bool { return strings.HasSuffix(x.path, end) })
	}
	return strings.Contains(x.head.target[len(x.path):], "wait=true")
}

func (x *exchange) refuse(reason stats.Reason, status int, text string) after {
	x.noteRefusal(reason)
	return x.say(status, text)
}

func (x *exchange) noteRefusal(reason stats.Reason) {
	what := x.head.method + " " + x.path
	if x.head.method == "" {
		what = x.fault // there is no request to name
	}
	x.r.Refusals.Refuse(reason, what, x.cl.c.RemoteAddr().String())
}

// whyNot is the reason of an error of Relay.Refuse.
func whyNot(err error) stats.Reason {
	var wrong *policy.WrongClusterError
	if errors.As(err, &wrong) {
		return stats.WrongCluster
	}
	return stats.NoCluster
}

// refuseLoop refuses a request that came back to us, in a way that we know again.
// A probe of our own is no client's refusal: it comes back for as long as somebody
// leads it here.
func (x *exchange) refuseLoop(text string) after {
	if x.head.fields.joined(userAgent, "") != director.ProbeAgent {
		x.noteRefusal(stats.Loop)
	}
	return x.sayWith(http.Header{"Proxy-Status": {x.r.Instance.Refusal()}}, http.StatusLoopDetected, text+": "+policy.LoopHint)
}

// forward sends the request to members until one has answered it. What happens
// when one fails (law 1 of the design: a write reaches at most one member, at
// most once; "sent" is any byte given to write()):
//
//	sent to it | failed                  | request                     | then
//	-----------+-------------------------+-----------------------------+---------------------------
//	nothing    | dial, TLS handshake, or | any                         | the next member; none left:
//	           | pooled connection ended |                             | 502 with the last cause
//	nothing    | no connection in time   | any                         | the next member; none left:
//	           |                         |                             | it again, while it is usable
//	anything   | before an answer        | read, body kept or none     | the next member; none left:
//	           |                         |                             | 502 with the last cause
//	anything   | before an answer        | read with a body streamed   | 502, not sent again
//	anything   | before an answer        | anything else               | 502, outcome unknown
//	anything   | after a 1xx was relayed | any                         | 502, as above, not sent again
//	anything   | our refusal came back,  | any, body kept or none      | the next member; none left:
//	           | so that it is a loop    |                             | 508
//	anything   | it is a loop            | any, body streamed          | 508
//	anything   | within the answer       | any                         | the client's answer is cut
//	anything   | the client left         | any                         | the member connection is cut
//
// A read is what policy.HTTPRead knows as one. A failure that is the client's
// says nothing about the member; any other makes the director's probe look. A
// loop condemns the endpoint at once: what came back was processed by nobody.
func (x *exchange) forward(ctx context.Context) after {
	defer x.dropBody()
	if err := x.keepBody(); err != nil {
		x.r.Stats.Left.Add(1)
		return cutOff
	}
	var t trials
	for {
		downs := x.r.downs.Load()
		e, err := x.choose(t.failed)
		if err != nil {
			if t.again() {
				continue
			}
			return x.nobodyLeft(t.last)
		}
		if t.last != nil {
			x.r.Retries.Add(t.why)
		}
		m, err := x.r.members.take(ctx, e, x.cl)
		if x.cl.isOver() {
			if err == nil {
				x.release(m, false)
			}
			x.r.Stats.Left.Add(1)
			return cutOff
		}
		if err != nil {
			t.add(e, err, stats.NotConnected)
			continue
		}
		if x.r.downs.Load() != downs && !e.Usable() {
			x.release(m, false) // chosen just before it was condemned
			continue
		}
		a := &x.try
		*a = attempt{x: x, m: m, head: a.head}
		next, err := a.run()
		if err == nil {
			return next
		}
		if next, final := x.failed(a, err); final {
			return next
		}
		why := stats.Unprocessed
		if !errors.Is(err, director.ErrLoop) && a.m.sent { // after a loop the connection may be another's already
			why = stats.Unanswered
		}
		t.add(e, err, why)
	}
}

func (x *exchange) choose(tried []*director.Endpoint) (*director.Endpoint, error) {
	if len(tried) == 0 {
		return x.cl.session.Endpoint(true)
	}
	return x.cl.session.Next(tried)
}

// failed says what follows a failed attempt: an answer, or, if it is not final,
// another attempt.
func (x *exchange) failed(a *attempt, err error) (next after, final bool) {
	var no *refusal
	switch {
	case errors.As(err, &no) && !x.answered:
		return x.refuse(stats.Malformed, no.status, no.text), true
	case errors.Is(err, errClientLeft) || no != nil || x.cl.isOver():
		a.count(0)
		x.r.Stats.Left.Add(1)
		return cutOff, true
	}
	if errors.Is(err, director.ErrLoop) {
		a.m.ep.LeadsBack()
		if x.streamed || x.answered {
			return x.refuseLoop(a.m.ep.String() + ": " + err.Error()), true
		}
		return 0, false
	}
	a.m.ep.Suspect()
	read := policy.HTTPRead(x.head.method, x.path) && !x.upgrade
	switch {
	case a.begun:
		a.count(0)
		x.r.Stats.Failed.Add(1)
		x.r.Logger.Warn("answer cut short", "endpoint", a.m.ep.String(), "error", err)
		if a.untilClose {
			reset(x.cl.c)
		}
		return cutOff, true
	case !a.m.sent, read && !x.streamed && !x.answered:
		return 0, false
	}
	x.r.Stats.Failed.Add(1)
	x.r.Logger.Warn("no answer to a request", "endpoint", a.m.ep.String(), "method", x.head.method, "error", err)
	text := fmt.Sprintf("outcome unknown: the request was sent to %s, which did not answer: %v", a.m.ep, err)
	if read {
		text = fmt.Sprintf("the request was sent to %s, which did not answer, and can't be sent again: %v", a.m.ep, err)
	}
	return x.say(http.StatusBadGateway, text), true
}

// nobodyLeft answers where the request changed nothing: it reached no member,
// or it is a read.
func (x *exchange) nobodyLeft(last error) after {
	if errors.Is(last, director.ErrLoop) {
		return x.refuseLoop(last.Error())
	}
	x.r.Stats.Failed.Add(1)
	if last == nil {
		return x.say(http.StatusServiceUnavailable, "no member of the cluster is known")
	}
	if x.r.Refuse != nil {
		if err := x.r.Refuse(); err != nil { // known since this request has tried
			return x.refuse(whyNot(err), http.StatusServiceUnavailable, err.Error())
		}
	}
	x.r.Logger.Warn("no member reached", "method", x.head.method, "error", last)
	return x.say(http.StatusBadGateway, fmt.Sprintf("no member answered; the last one tried was %v", last))
}

// release ends the use of a member connection, which is clean or closed.
func (x *exchange) release(m *member, clean bool) {
	x.cl.use(nil)
	if clean {
		x.r.members.put(m)
	} else {
		x.r.members.drop(m)
	}
}
