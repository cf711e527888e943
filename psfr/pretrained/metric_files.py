"""File names of the pretrained networks that the metrics load from `data/weights/metrics/`."""

STLPIPS_ALEXNET = "alex_shift_tolerant.pth"
STLPIPS_VGG16 = "vgg_shift_tolerant.pth"
VGG16 = "vgg16-397923af.pth"
INCEPTION = "pt_inception-2015-12-05-6726825d.pth"
FACE_EMBEDDING = "dlib_face_recognition_resnet_model_v1.dat"
FACE_LANDMARKS = "shape_predictor_5_face_landmarks.dat"

# dlib does not validate the files that it loads, so their hashes are verified before each use.
SHA256 = {
    FACE_EMBEDDING: "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    FACE_LANDMARKS: "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
}
