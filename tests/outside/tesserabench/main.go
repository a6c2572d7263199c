// Command tesserabench measures Tessera's POSIX driver in process, as the peer of the bench `audit_log`: submitters add
// entries one after the other, each waiting until its entry is sequenced and integrated; then fewer of them, each waiting
// until a published checkpoint covers its entry, which is the earliest that a proof can be made.
//
//	tesserabench FOLDER SUBMITTERS ENTRY_BYTES SECONDS
//
// It prints one line: entries a second, p50 to the index and p50 to the checkpoint, both in milliseconds.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, "tesserabench:", err)
		os.Exit(1)
	}
	return value
}

// load runs submitters that call add one after the other, and gives the rate and the median latency of the calls that
// ended within the time, its first quarter left out.
func load(submitters int, duration time.Duration, add func()) (float64, time.Duration) {
	begun := time.Now()
	warm, end := begun.Add(duration/4), begun.Add(duration/4+duration)
	latencies := make([][]time.Duration, submitters)
	var group sync.WaitGroup
	for n := range submitters {
		group.Add(1)
		go func() {
			defer group.Done()
			for time.Now().Before(end) {
				started := time.Now()
				add()
				if ended := time.Now(); started.After(warm) && ended.Before(end) {
					latencies[n] = append(latencies[n], ended.Sub(started))
				}
			}
		}()
	}
	group.Wait()
	var all []time.Duration
	for _, some := range latencies {
		all = append(all, some...)
	}
	if len(all) == 0 {
		return 0, 0
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	return float64(len(all)) / duration.Seconds(), all[len(all)/2]
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: tesserabench FOLDER SUBMITTERS ENTRY_BYTES SECONDS")
		os.Exit(2)
	}
	submitters, bytes := must(strconv.Atoi(os.Args[2])), must(strconv.Atoi(os.Args[3]))
	duration := time.Duration(must(strconv.ParseFloat(os.Args[4], 64)) * float64(time.Second))
	ctx := context.Background()
	secret, _, err := note.GenerateKey(rand.Reader, "bench.example/log")
	signer := must(note.NewSigner(must(secret, err)))
	driver := must(posix.New(ctx, posix.Config{Path: os.Args[1]}))
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(100*time.Millisecond).
		WithBatching(1024, 10*time.Millisecond).
		WithPushback(65536)
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tesserabench:", err)
		os.Exit(1)
	}
	entry := func() *tessera.Entry {
		data := make([]byte, bytes)
		must(rand.Read(data))
		return tessera.NewEntry(data)
	}
	rate, index := load(submitters, duration, func() { must(appender.Add(ctx, entry())()) })
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 5*time.Millisecond)
	_, proof := load(submitters, duration, func() {
		_, _, err := awaiter.Await(ctx, appender.Add(ctx, entry()))
		must(0, err)
	})
	must(0, shutdown(ctx))
	milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	fmt.Printf("%.0f %.3f %.3f\n", rate, milliseconds(index), milliseconds(proof))
}
