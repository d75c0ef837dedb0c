// Classifies a JPEG with a file of `vgg-export --onnx --whole-images 256`.
// The file takes the image as it is decoded: it rescales, subtracts the mean and scores by itself.
// Use: classify MODEL.onnx IMAGE.jpg. CMakeLists.txt builds it.
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>
#include <jpeglib.h>  // after <cstdio>, which it needs

struct Image {
    int64_t width, height;
    std::vector<uint8_t> rgb;  // row by row, three bytes per pixel
};

[[noreturn]] static void fail(const std::string& what) {
    std::fprintf(stderr, "Error: %s\n", what.c_str());
    std::exit(2);
}

static const OrtApi* ort = nullptr;
static void check(OrtStatus* status) {
    if (status) fail(ort->GetErrorMessage(status));
}

static Image read_jpeg(const std::string& path) {
    FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) fail(path + ": cannot be opened");
    jpeg_error_mgr errors;
    jpeg_decompress_struct jpeg;
    jpeg.err = jpeg_std_error(&errors);  // for a damaged file it prints why, and exits with 1
    jpeg_create_decompress(&jpeg);
    jpeg_stdio_src(&jpeg, file);
    jpeg_read_header(&jpeg, TRUE);
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    Image image{jpeg.output_width, jpeg.output_height, {}};
    image.rgb.resize(3 * image.width * image.height);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = image.rgb.data() + 3 * image.width * jpeg.output_scanline;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_destroy_decompress(&jpeg);
    std::fclose(file);
    return image;
}

// The name of a class in the metadata entry `names`: {0: 'tench', 1: "goldfish", ...}
static std::string name_of(const std::string& names, size_t number) {
    std::string key = std::to_string(number) + ": ", name;
    size_t at = names.find((number ? ", " : "{") + key);
    if (at == std::string::npos) return "?";
    at += (number ? 2 : 1) + key.size();
    for (char quote = names[at++]; at < names.size() && names[at] != quote; at++)
        name += names[at] == '\\' ? names[++at] : names[at];
    return name;
}

int main(int count, char** words) {
    if (count != 3) fail("use: classify MODEL.onnx IMAGE.jpg");
    Image image = read_jpeg(words[2]);
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!ort) fail("the installed ONNX Runtime is older than the header of this program");
    OrtEnv* env;
    OrtSessionOptions* options;
    OrtSession* session;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "classify", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->CreateSession(env, words[1], options, &session));
    OrtAllocator* allocator;
    OrtModelMetadata* metadata;
    char* names = nullptr;
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->SessionGetModelMetadata(session, &metadata));
    check(ort->ModelMetadataLookupCustomMetadataMap(metadata, allocator, "names", &names));
    OrtMemoryInfo* memory;
    OrtValue *input, *output = nullptr;
    const int64_t shape[] = {1, image.height, image.width, 3};
    const char *in = "image", *out = "posterior";
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(ort->CreateTensorWithDataAsOrtValue(memory, image.rgb.data(), image.rgb.size(), shape, 4,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &input));
    check(ort->Run(session, nullptr, &in, &input, 1, &out, 1, &output));
    float* posterior;
    size_t classes;
    OrtTensorTypeAndShapeInfo* info;
    check(ort->GetTensorMutableData(output, (void**)&posterior));
    check(ort->GetTensorTypeAndShape(output, &info));
    check(ort->GetTensorShapeElementCount(info, &classes));
    std::vector<size_t> order(classes);
    std::iota(order.begin(), order.end(), 0);
    auto better = [&](size_t a, size_t b) { return posterior[a] > posterior[b]; };
    std::sort(order.begin(), order.end(), better);
    order.resize(std::min<size_t>(5, classes));
    for (size_t i : order)
        std::printf("%.6f %s\n", posterior[i], name_of(names ? names : "", i).c_str());
}
