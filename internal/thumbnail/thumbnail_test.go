package thumbnail

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"testing"
)

// halves is an image whose left half is red and whose right half is blue.
func halves(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.NRGBA{R: 255, A: 255}
			if x >= w/2 {
				c = color.NRGBA{B: 255, A: 255}
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}

func asJPEG(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asPNG(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// withOrientation puts an EXIF segment that has an orientation, and a text that may not get into the thumbnail, behind the
// first marker of a JPEG.
func withOrientation(jpg []byte, orientation uint16) []byte {
	tiff := []byte("II*\x00\x08\x00\x00\x00\x02\x00")
	entry := func(tag, kind uint16, count, value uint32) {
		tiff = binary.LittleEndian.AppendUint16(tiff, tag)
		tiff = binary.LittleEndian.AppendUint16(tiff, kind)
		tiff = binary.LittleEndian.AppendUint32(tiff, count)
		tiff = binary.LittleEndian.AppendUint32(tiff, value)
	}
	secret := "taken at home\x00"
	entry(0x010e, 2, uint32(len(secret)), 8+2+2*12+4) // ImageDescription
	entry(0x0112, 3, 1, uint32(orientation))
	tiff = append(tiff, 0, 0, 0, 0)
	tiff = append(tiff, secret...)
	segment := append([]byte("Exif\x00\x00"), tiff...)
	out := append([]byte{}, jpg[:2]...)
	out = append(out, 0xff, 0xe1)
	out = binary.BigEndian.AppendUint16(out, uint16(len(segment)+2))
	out = append(out, segment...)
	return append(out, jpg[2:]...)
}

func isRed(c color.Color) bool {
	r, _, b, _ := c.RGBA()
	return r > 2*b
}

func TestMake(t *testing.T) {
	t.Parallel()
	m := NewMaker(64 << 20)
	for _, tc := range []struct {
		name          string
		src           []byte
		width, height int
		method        Method
		typ           string
		w, h          int
	}{
		{"a wide JPEG is scaled to the width", asJPEG(t, halves(1000, 500)), 320, 240, Scale, "image/jpeg", 320, 160},
		{"a high JPEG is scaled to the height", asJPEG(t, halves(500, 1000)), 320, 240, Scale, "image/jpeg", 120, 240},
		{"a JPEG is cut to the proportions asked for", asJPEG(t, halves(1000, 500)), 96, 96, Crop, "image/jpeg", 96, 96},
		{"a size between two is the larger one", asJPEG(t, halves(1000, 500)), 300, 200, Crop, "image/jpeg", 320, 240},
		{"nothing is scaled up", asPNG(t, halves(1000, 20)), 96, 96, Crop, "image/png", 20, 20},
		{"an extreme image keeps a pixel", asPNG(t, halves(4000, 1)), 32, 32, Scale, "image/png", 32, 1},
		{"a PNG stays one", asPNG(t, halves(640, 480)), 32, 32, Scale, "image/png", 32, 24},
		{"a turned JPEG is turned back", withOrientation(asJPEG(t, halves(1000, 500)), 6), 320, 240, Scale, "image/jpeg", 120, 240},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			spec, ok := NewSpec(tc.width, tc.height, tc.method, false)
			if !ok {
				t.Fatal("no spec")
			}
			got, err := m.Make(t.Context(), bytes.NewReader(tc.src), spec)
			if err != nil {
				t.Fatal(err)
			}
			img, _, err := image.Decode(bytes.NewReader(got.Bytes))
			if err != nil {
				t.Fatal(err)
			}
			if size := img.Bounds().Size(); got.Type != tc.typ || size != image.Pt(tc.w, tc.h) {
				t.Errorf("%s of %v, want %s of %d × %d", got.Type, size, tc.typ, tc.w, tc.h)
			}
		})
	}
}

func TestOrientations_are_applied(t *testing.T) {
	t.Parallel()
	m := NewMaker(64 << 20)
	spec, _ := NewSpec(64, 64, Scale, false)
	// Where the red half, on the left of what is stored, has to be.
	for orientation, red := range []string{1: "left", "right", "right", "left", "top", "top", "bottom", "bottom"} {
		if red == "" {
			continue
		}
		src := withOrientation(asJPEG(t, halves(800, 800)), uint16(orientation))
		got, err := m.Make(t.Context(), bytes.NewReader(src), spec)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(got.Bytes, []byte("taken at home")) {
			t.Error("the thumbnail has metadata of the image")
		}
		img, err := jpeg.Decode(bytes.NewReader(got.Bytes))
		if err != nil {
			t.Fatal(err)
		}
		at := map[string]image.Point{"left": {8, 32}, "right": {56, 32}, "top": {32, 8}, "bottom": {32, 56}}
		for side, p := range at {
			if want := side == red; isRed(img.At(p.X, p.Y)) != want && (side == red || side == opposite[red]) {
				t.Errorf("orientation %d: red at %s: %v, want the red half at %s", orientation, side, !want, red)
			}
		}
	}
}

var opposite = map[string]string{"left": "right", "right": "left", "top": "bottom", "bottom": "top"}

func animation(t *testing.T, w, h, frames int) []byte {
	t.Helper()
	g := &gif.GIF{}
	for i := range frames {
		img := image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.Black, color.White, color.RGBA{R: 255, A: 255}})
		for p := range img.Pix {
			img.Pix[p] = uint8(i % 3)
		}
		g.Image = append(g.Image, img)
		g.Delay = append(g.Delay, 7)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAnimated_GIF(t *testing.T) {
	t.Parallel()
	src := animation(t, 200, 100, 5)
	make := func(budget int64, animated bool) Result {
		spec, _ := NewSpec(96, 96, Scale, animated)
		got, err := NewMaker(budget).Make(t.Context(), bytes.NewReader(src), spec)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	moving := make(1<<20, true)
	if moving.Type != "image/gif" {
		t.Fatalf("an animated thumbnail is %s", moving.Type)
	}
	g, err := gif.DecodeAll(bytes.NewReader(moving.Bytes))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Image) != 5 || g.Delay[4] != 7 || g.Config.Width != 96 || g.Config.Height != 48 {
		t.Errorf("the thumbnail has %d frames of %d × %d", len(g.Image), g.Config.Width, g.Config.Height)
	}
	if still := make(1<<20, false); still.Type != "image/png" {
		t.Errorf("without animated it is %s", still.Type)
	}
	if still := make(100_000, true); still.Type != "image/png" {
		t.Errorf("too large to move, it is %s, want the first frame", still.Type)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	spec, _ := NewSpec(32, 32, Scale, false)
	m := NewMaker(1 << 20)
	large := asPNG(t, image.NewGray(image.Rect(0, 0, 600, 600)))
	bomb := append([]byte{}, asPNG(t, image.NewGray(image.Rect(0, 0, 64, 64)))...)
	binary.BigEndian.PutUint32(bomb[16:], 60_000) // its width; the checksum is wrong then
	for _, tc := range []struct {
		name string
		src  []byte
		want error
	}{
		{"an image that takes more memory than there is", large, ErrTooLarge},
		{"a small image", asPNG(t, halves(20, 20)), ErrSmall},
		{"a text", []byte("no image, but a long enough text"), ErrNoImage},
		{"nothing", nil, ErrNoImage},
		{"a broken header", bomb, ErrNoImage},
		{"half an image", asJPEG(t, halves(300, 300))[:600], ErrNoImage},
		{"half a GIF", animation(t, 100, 100, 1)[:20], ErrNoImage},
	} {
		if _, err := m.Make(t.Context(), bytes.NewReader(tc.src), spec); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if _, ok := NewSpec(1601, 20, Scale, false); ok {
		t.Error("there is a spec larger than the largest")
	}
	full := NewMaker(1 << 20)
	if err := full.memory.Acquire(t.Context(), 1<<20); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := full.Make(ctx, bytes.NewReader(asJPEG(t, halves(300, 300))), spec); !errors.Is(err, context.Canceled) {
		t.Errorf("with all memory taken and nobody waiting: %v", err)
	}
}

func FuzzMake(f *testing.F) {
	for _, img := range []image.Image{halves(40, 30), image.NewGray16(image.Rect(0, 0, 50, 50))} {
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	m := NewMaker(4 << 20)
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, animated := range []bool{false, true} {
			spec, _ := NewSpec(32, 32, Crop, animated)
			got, err := m.Make(t.Context(), bytes.NewReader(src), spec)
			if err != nil {
				continue
			}
			config, _, err := image.DecodeConfig(bytes.NewReader(got.Bytes))
			if err != nil || config.Width > 32 || config.Height > 32 {
				t.Errorf("a thumbnail of %d × %d: %v", config.Width, config.Height, err)
			}
		}
	})
}

func BenchmarkMake_12_megapixels(b *testing.B) {
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, halves(4000, 3000), nil); err != nil {
		b.Fatal(err)
	}
	m := NewMaker(256 << 20)
	spec, _ := NewSpec(800, 600, Scale, false)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Make(b.Context(), bytes.NewReader(buf.Bytes()), spec); err != nil {
			b.Fatal(err)
		}
	}
}
