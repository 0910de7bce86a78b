package promote

import (
	"context"
	"time"
)

// stirInterval is the time between two looks whether anybody writes.
const stirInterval = time.Second

// Stirred calls wait, and until it returns sees to it that the log of the cluster
// moves: where nobody writes, each second it gets an entry that changes nothing.
//
// A new etcd of 3.6 or 3.7 may need one to serve. While its log ends where its
// snapshot did it counts nothing as applied (applySnapshot,
// server/etcdserver/server.go), and where that is above index 5,000 it takes
// itself for overloaded (maxGapBetweenApplyAndCommitIndex,
// server/etcdserver/v3_server.go): its own publish request is refused with "too
// many requests" and made again at once, for ever. In 20 s it logged that 350,000
// times.
func (c *Cluster) Stirred(ctx context.Context, wait func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.stir(ctx) }()
	err := wait()
	cancel()
	if stirErr := <-ended; stirErr != nil && err != nil && !isFinal(err) {
		c.say("the cluster got no entry meanwhile: " + plain(stirErr))
	}
	return err
}

// stir goes on until the context ends, or the cluster refuses our user.
func (c *Cluster) stir(ctx context.Context) error {
	p := newPanel(c)
	defer p.close()
	ticker := time.NewTicker(stirInterval)
	defer ticker.Stop()
	var last uint64
	for {
		index, _, err := p.ask(ctx)
		if isFinal(err) {
			return err
		}
		if err == nil && index == last {
			p.stir(ctx)
			index++ // the entry
		}
		last = index
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
