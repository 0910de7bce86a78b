package proxy
import ("testing";"time";"sync";"context";"net";"sort";"os")
func TestZZStall(t *testing.T) {
	for round := range 5 {
	var p *running
	p = startFor(t, nil)
	startShared(t, p.addr, nil)
	mustAsk(t, p, HoldPath, nil, nil)
	type s struct{ at time.Time; d time.Duration }
	var mu sync.Mutex
	var all []s
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	pause := 2*time.Millisecond
	if os.Getenv("FULL") != "" { pause = 0 }
	for range 20 { wg.Go(func() {
		for ctx.Err() == nil {
			at := time.Now()
			c, err := net.Dial("tcp", p.addr)
			if err != nil { t.Error(err); return }
			c.Write([]byte("GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
			b := make([]byte, 4096)
			n, err := c.Read(b)
			if n == 0 { t.Error(err) }
			d := time.Since(at)
			c.Close()
			mu.Lock(); all = append(all, s{at, d}); mu.Unlock()
			time.Sleep(pause)
		}
	}) }
	time.Sleep(500*time.Millisecond)
	a := time.Now()
	mustAsk(t, p, HandOverPath, nil, nil)
	b := time.Now()
	time.Sleep(500*time.Millisecond)
	cancel(); wg.Wait()
	q := func(from, to time.Time) (int, time.Duration, time.Duration, time.Duration) {
		var ds []time.Duration
		for _, x := range all { if x.at.Add(x.d).After(from) && x.at.Before(to) { ds = append(ds, x.d) } }
		sort.Slice(ds, func(i,j int) bool {return ds[i]<ds[j]})
		if len(ds)==0 {return 0,0,0,0}
		return len(ds), ds[len(ds)/2], ds[len(ds)*99/100], ds[len(ds)-1]
	}
	n1,m1,p1,x1 := q(a.Add(-400*time.Millisecond), a)
	n2,m2,p2,x2 := q(a, b)
	n3,m3,p3,x3 := q(b, b.Add(400*time.Millisecond))
	t.Logf("round %d: before n=%d p50=%v p99=%v max=%v | switch (%v) n=%d p50=%v p99=%v max=%v | after n=%d p50=%v p99=%v max=%v", round, n1,m1,p1,x1,b.Sub(a),n2,m2,p2,x2,n3,m3,p3,x3)
	p.end()
	}
}
