// Package stats counts what the proxy does: answers by call and result, retries
// and refusals by reason, bytes. Counting takes one atomic addition; a nil counter
// counts nothing.
package stats

import (
	"slices"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"etcdops/proxy/policy"
)

// API is one of the families of requests.
type API uint8

// The families.
const (
	V2    API = iota // below /v2, by HTTP's methods
	JSON             // the JSON gateway, by the call that it leads to
	GRPC             // by the call
	Other            // /health, /version, /metrics and the like
	numAPIs
)

// String is the API's name as a label.
func (a API) String() string { return [numAPIs]string{"v2", "json", "grpc", "other"}[a] }

// verbs are the HTTP methods that are told apart, the last for all others.
var verbs = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "other"}

const (
	numVerbs   = 8
	numClasses = 6  // 0: no answer; else the first digit of the status
	numCodes   = 18 // gRPC's, the last for those that are none and for no answer
)

// Answers are the answers of one member, or of the proxy itself, to requests.
type Answers struct {
	v2, other [numVerbs][numClasses]atomic.Int64
	json      [policy.NumCalls][numClasses]atomic.Int64
	grpc      [policy.NumCalls][numCodes]atomic.Int64
}

// GRPC counts the answer to a call, as policy.CallOf names it, by its code in
// grpc-status; anything that is no code counts as no answer.
func (a *Answers) GRPC(call policy.Call, code string) {
	if a == nil {
		return
	}
	n, err := strconv.ParseUint(code, 10, 8)
	if err != nil || n >= numCodes {
		n = numCodes - 1
	}
	a.grpc[call][n].Add(1)
}

// HTTP counts the answer to an HTTP request; status 0 means that there was none.
func (a *Answers) HTTP(api API, call policy.Call, method string, status int) {
	if a == nil {
		return
	}
	class := status / 100
	if class < 0 || class >= numClasses {
		class = 0
	}
	if api == JSON {
		a.json[call][class].Add(1)
		return
	}
	verb := slices.Index(verbs, method)
	if verb < 0 {
		verb = numVerbs - 1
	}
	if api == V2 {
		a.v2[verb][class].Add(1)
	} else {
		a.other[verb][class].Add(1)
	}
}

// Each calls f for every count that is not zero.
func (a *Answers) Each(f func(api API, method, result string, n int64)) {
	for verb := range verbs {
		for class := range numClasses {
			each(&a.v2[verb][class], func(n int64) { f(V2, verbs[verb], className(class), n) })
			each(&a.other[verb][class], func(n int64) { f(Other, verbs[verb], className(class), n) })
		}
	}
	for call := range policy.Call(policy.NumCalls) {
		for class := range numClasses {
			each(&a.json[call][class], func(n int64) { f(JSON, call.String(), className(class), n) })
		}
		for code := range numCodes {
			each(&a.grpc[call][code], func(n int64) { f(GRPC, call.String(), codeName(code), n) })
		}
	}
}

func each(counter *atomic.Int64, f func(int64)) {
	if n := counter.Load(); n != 0 {
		f(n)
	}
}

// noAnswer is the result of a request that got none, or not a whole one.
const noAnswer = "none"

func className(class int) string {
	if class == 0 {
		return noAnswer
	}
	return strconv.Itoa(class) + "xx"
}

func codeName(code int) string {
	if code == numCodes-1 {
		return noAnswer
	}
	return codes.Code(code).String()
}
