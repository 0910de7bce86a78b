package stats

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"etcdops/proxy/policy"
)

// counted lists the counts as "api method result": n.
func counted(a *Answers) map[string]int64 {
	found := map[string]int64{}
	a.Each(func(api API, method, result string, n int64) {
		found[strings.Join([]string{api.String(), method, result}, " ")] += n
	})
	return found
}

func TestAnswers(t *testing.T) {
	put := policy.CallOf("/etcdserverpb.KV/Put")
	for name, test := range map[string]struct {
		count func(a *Answers)
		want  string
	}{
		"grpc OK":                     {func(a *Answers) { a.GRPC(put, "0") }, "grpc etcdserverpb.KV/Put OK"},
		"grpc, the last code":         {func(a *Answers) { a.GRPC(put, "16") }, "grpc etcdserverpb.KV/Put Unauthenticated"},
		"grpc, one code too many":     {func(a *Answers) { a.GRPC(put, "17") }, "grpc etcdserverpb.KV/Put none"},
		"grpc, a code over a byte":    {func(a *Answers) { a.GRPC(put, "256") }, "grpc etcdserverpb.KV/Put none"},
		"grpc, a code below 0":        {func(a *Answers) { a.GRPC(put, "-1") }, "grpc etcdserverpb.KV/Put none"},
		"grpc, a huge code":           {func(a *Answers) { a.GRPC(put, "99999999999999999999") }, "grpc etcdserverpb.KV/Put none"},
		"grpc, no code":               {func(a *Answers) { a.GRPC(put, "") }, "grpc etcdserverpb.KV/Put none"},
		"grpc, words":                 {func(a *Answers) { a.GRPC(put, "Unavailable") }, "grpc etcdserverpb.KV/Put none"},
		"grpc, an unknown call":       {func(a *Answers) { a.GRPC(policy.CallOf("/x.Y/Z"), "12") }, "grpc other Unimplemented"},
		"grpc, the last call":         {func(a *Answers) { a.GRPC(policy.NumCalls-1, "1") }, "grpc grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo Canceled"},
		"json 2xx":                    {func(a *Answers) { a.HTTP(JSON, put, "POST", 200) }, "json etcdserverpb.KV/Put 2xx"},
		"json, an unknown call":       {func(a *Answers) { a.HTTP(JSON, 0, "BREW", 404) }, "json other 4xx"},
		"json without an answer":      {func(a *Answers) { a.HTTP(JSON, put, "POST", 0) }, "json etcdserverpb.KV/Put none"},
		"v2 GET":                      {func(a *Answers) { a.HTTP(V2, 0, "GET", 301) }, "v2 GET 3xx"},
		"v2, another method":          {func(a *Answers) { a.HTTP(V2, 0, "PROPFIND", 501) }, "v2 other 5xx"},
		"v2, a method in small":       {func(a *Answers) { a.HTTP(V2, 0, "get", 200) }, "v2 other 2xx"},
		"v2 without a method":         {func(a *Answers) { a.HTTP(V2, 0, "", 400) }, "v2 other 4xx"},
		"other, switching protocols":  {func(a *Answers) { a.HTTP(Other, 0, "GET", 101) }, "other GET 1xx"},
		"other, the last status":      {func(a *Answers) { a.HTTP(Other, 0, "HEAD", 599) }, "other HEAD 5xx"},
		"other, a status over all":    {func(a *Answers) { a.HTTP(Other, 0, "HEAD", 600) }, "other HEAD none"},
		"other, a status below all":   {func(a *Answers) { a.HTTP(Other, 0, "HEAD", -200) }, "other HEAD none"},
		"other, the word \"other\"":   {func(a *Answers) { a.HTTP(Other, 0, "other", 200) }, "other other 2xx"},
		"an API that is none of ours": {func(a *Answers) { a.HTTP(numAPIs, 0, "GET", 200) }, "other GET 2xx"},
	} {
		t.Run(name, func(t *testing.T) {
			var a Answers
			test.count(&a)
			if got := counted(&a); !maps.Equal(got, map[string]int64{test.want: 1}) {
				t.Errorf("got %v, want %s", got, test.want)
			}
		})
	}
}

// Whatever clients and members say, the labels are those of the tables.
func TestAnswersAreBounded(t *testing.T) {
	const tries = 20000
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"", "GET", "get", "PUT", "0", "7", "16", "17", "-1", "1e3", "OK", "\xff", "a b", strings.Repeat("x", 1000)}
	word := func() string {
		if random.IntN(2) == 0 {
			return words[random.IntN(len(words))]
		}
		return strconv.FormatInt(random.Int64()>>random.IntN(64), 10)
	}
	statuses := []int{math.MinInt, -1, 0, 99, 100, 599, 600, math.MaxInt}
	var a Answers
	for range tries {
		a.GRPC(policy.CallOf("/"+word()), word())
		a.GRPC(policy.Call(random.IntN(policy.NumCalls)), word())
		status := random.IntN(1200) - 300
		if random.IntN(4) == 0 {
			status = statuses[random.IntN(len(statuses))]
		}
		a.HTTP(API(random.IntN(int(numAPIs))), policy.CallAt("/v3/"+word()), word(), status)
	}
	total := int64(0)
	a.Each(func(api API, method, result string, n int64) {
		total += n
		known := slices.Contains(verbs, method)
		if api == JSON || api == GRPC {
			known = method == "other" || policy.CallOf("/"+method) != 0
		}
		results := []string{noAnswer, "1xx", "2xx", "3xx", "4xx", "5xx"}
		if api == GRPC {
			results = grpcResults
		}
		if !known || !slices.Contains(results, result) {
			t.Errorf("a count by %s %s %s", api, method, result)
		}
	})
	if total != 3*tries {
		t.Errorf("%d answers are counted of %d", total, 3*tries)
	}
	if most := 2*numVerbs*numClasses + policy.NumCalls*(numClasses+numCodes); len(counted(&a)) > most {
		t.Errorf("%d series are more than %d", len(counted(&a)), most)
	}
}

// grpcResults are gRPC's codes as its documents name them (statuscodes.md).
var grpcResults = []string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
	"PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
	"Internal", "Unavailable", "DataLoss", "Unauthenticated", noAnswer,
}

func TestGRPCResults(t *testing.T) {
	for code, want := range grpcResults {
		var a Answers
		a.GRPC(1, fmt.Sprint(code))
		a.Each(func(_ API, _, result string, n int64) {
			if result != want || n != 1 {
				t.Errorf("code %d is counted %d times as %s, not as %s", code, n, result, want)
			}
		})
	}
}

// Nobody reads what is nil.
func TestNilCounters(*testing.T) {
	(*Answers)(nil).GRPC(1, "0")
	(*Answers)(nil).HTTP(V2, 0, "GET", 200)
	(*Retries)(nil).Add(Unanswered)
	(*Retries)(nil).Each(nil)
	(*Refusals)(nil).Refuse(Loop, "", "")
	(*Refusals)(nil).Each(nil)
}

func TestRetries(t *testing.T) {
	var r Retries
	for cause := range numCauses {
		for range cause + 1 {
			r.Add(cause)
		}
	}
	var got []string
	r.Each(func(cause Cause, n int64) { got = append(got, fmt.Sprint(cause, " ", n)) })
	if want := []string{"not_connected 1", "unprocessed 2", "unanswered 3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if r.Total() != 6 {
		t.Errorf("the sum is %d", r.Total())
	}
}
