// Command tlogcheck checks a log that is served as tlog-tiles with Go's own implementation of notes and transparent
// logs, golang.org/x/mod/sumdb: the signature of the checkpoint, every tile against it, and every entry of every bundle
// against its tile. It shares no code with Unefois.
//
//	tlogcheck URL VERIFIER_KEY
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8

func get(url string) ([]byte, error) {
	response, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return io.ReadAll(response.Body)
}

// checkpoint opens a signed note and reads origin, size and root from it.
func checkpoint(base, key string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return tlog.Tree{}, err
	}
	text, err := get(base + "/checkpoint")
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		return tlog.Tree{}, fmt.Errorf("the checkpoint is not one of %s", verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tlog.Tree{}, fmt.Errorf("the checkpoint has no root")
	}
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], root)
	return tree, nil
}

// path of a tile: sumdb names the height of its tiles, tlog-tiles does not.
func path(tile tlog.Tile) string {
	rest, _ := strings.CutPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tile.H))
	if tile.L == -1 {
		rest, _ = strings.CutPrefix(rest, "data/")
		return "tile/entries/" + rest
	}
	return "tile/" + rest
}

type tiles struct{ base string }

func (t tiles) Height() int                     { return tileHeight }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		bytes, err := get(t.base + "/" + path(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, bytes)
	}
	return all, nil
}

// bundle checks the entries of one bundle against the tree.
func bundle(base string, tree tlog.Tree, hashes tlog.HashReader, n int64) error {
	width := min(tree.N-n*256, 256)
	bytes, err := get(base + "/" + path(tlog.Tile{H: tileHeight, L: -1, N: n, W: int(width)}))
	if err != nil {
		return err
	}
	var indexes []int64
	for i := range width {
		indexes = append(indexes, tlog.StoredHashIndex(0, n*256+i))
	}
	expected, err := hashes.ReadHashes(indexes)
	if err != nil {
		return err
	}
	for i := range width {
		if len(bytes) < 2 || len(bytes) < 2+int(binary.BigEndian.Uint16(bytes)) {
			return fmt.Errorf("bundle %d is cut at entry %d", n, i)
		}
		end := 2 + int(binary.BigEndian.Uint16(bytes))
		if tlog.RecordHash(bytes[2:end]) != expected[i] {
			return fmt.Errorf("entry %d is not in the tree", n*256+i)
		}
		bytes = bytes[end:]
	}
	if len(bytes) != 0 {
		return fmt.Errorf("bundle %d goes on behind its entries", n)
	}
	return nil
}

// everyTile reads each tile whole, also those that no entry needs.
func everyTile(base string, tree tlog.Tree, hashes tlog.HashReader) error {
	for level := 0; tree.N>>(tileHeight*level) > 0; level++ {
		count := tree.N >> (tileHeight * level)
		var indexes []int64
		for i := range count {
			indexes = append(indexes, tlog.StoredHashIndex(tileHeight*level, i))
		}
		if _, err := hashes.ReadHashes(indexes); err != nil {
			return err
		}
	}
	return nil
}

func run(base, key string) error {
	tree, err := checkpoint(base, key)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, tiles{base})
	if err := everyTile(base, tree, hashes); err != nil {
		return err
	}
	for n := int64(0); n*256 < tree.N; n++ {
		if err := bundle(base, tree, hashes, n); err != nil {
			return err
		}
	}
	fmt.Printf("%d entries are in the tree that %s signed\n", tree.N, strings.SplitN(key, "+", 2)[0])
	return nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: tlogcheck URL VERIFIER_KEY")
		os.Exit(2)
	}
	if err := run(strings.TrimSuffix(os.Args[1], "/"), os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
